"""Search spaces in files: what is read, and what is refused with a reason."""

from pathlib import Path

import pytest

from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.training.check import check_space
from tests.hpo.space.spaces import CONDITIONAL


def test_a_space_survives_conversion_to_a_dictionary():
    for space in (
        read_space("nomura"),
        parse_space(CONDITIONAL | {"first": [{"loss": "bce", "units": 3, "flip": False}]}),
    ):
        assert parse_space(space.as_dict()) == space


def test_1e_minus_8_in_yaml_is_a_number(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("parameters:\n  lr: {kind: float, low: 1e-8, high: 1e-2, log: true}\n")
    assert read_space(str(path)).parameters[0].low == 1e-8


def test_lists_of_numbers_without_a_point_are_numbers_too(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "parameters:\n  lr: {kind: ordinal, values: [1e-3, 1E-2, 1.5e+1, 1e, 1e999]}\n"
        "  eps: {kind: fixed, value: 1e-8}\n"
        "  decay: {kind: float, low: 0, high: 1, when: {lr: [1e-2]}}\n"
        "first: [{lr: 1e-3}]\n"
    )
    space = read_space(str(path))
    assert space.parameters[0].values == (1e-3, 1e-2, 15.0, "1e", "1e999")
    assert space.first == ({"lr": 1e-3, "eps": 1e-8},)
    assert "decay" in space.from_unit([0.3, 0.5])
    assert parse_space(space.as_dict()) == space


def test_a_point_of_a_study_that_kept_such_a_number_as_text_is_still_read():
    space = parse_space({"parameters": {"lr": {"kind": "ordinal", "values": ["1e-3", "1e-2"]}}})
    assert space.check({"lr": "1e-3"}) == {"lr": 1e-3}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "float", "low": 1, "high": 1}, "low=1 must be below high=1"),
        ({"kind": "float", "low": -1e308, "high": 1e308}, "the range from -1e"),
        (
            {"kind": "float", "low": 0, "high": 1, "log": True},
            "low=0 must be above 0 on a log scale",
        ),
        ({"kind": "int", "low": 0, "high": 5, "step": 2}, "high=5 is not low=0 plus a multiple of"),
        ({"kind": "int", "low": 0, "hihg": 5}, "has an unknown key hihg; did you mean high"),
        ({"kind": "float", "low": 0, "high": 1, "step": 2}, "kind=float does not support step"),
        ({"kind": "real"}, "kind=real must be one of float, int"),
        ({"kind": "categorical", "values": ["a"]}, "must list at least two values"),
        ({"kind": "ordinal", "values": [1, 1]}, "lists a value twice"),
        ({"kind": "fixed"}, "is fixed but has no value"),
        ({"kind": "bool", "when": {"b": 1}}, "when names b, which is not defined above"),
        ({"kind": "float", "low": "x", "high": 1}, "x: low=x must be a number"),
        ({"kind": "float", "low": 0, "high": 1, "prior": {"center": 2, "spread": 1}}, "outside"),
    ],
)
def test_an_impossible_parameter_is_refused_with_the_reason(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse_space({"parameters": {"x": settings}})


def test_an_unknown_space_lists_the_existing_ones():
    with pytest.raises(ConfigError, match="neither a readable YAML file nor one of: nomura"):
        read_space("nomurra")


def test_the_example_in_the_docs_fits_the_train_command(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "tuning.md").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    space = read_space(str(path))
    check_space(space, TrainConfig())
    assert "augment.shift_vox" not in space.first[0]  # no copies, so nothing to shift
