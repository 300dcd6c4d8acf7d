import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.errors import ConfigError
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.space.space import Space, point_key
from tests.hpo.space.spaces import CONDITIONAL

NOMURA = read_space("nomura")
USUAL = {
    "patches.size_vox": 32,
    "model.depth": 3,
    "model.filters": 16,
    "model.kernel_size": 3,
    "model.residual": True,
    "optim.batch_size": 8,
    "optim.lr": 3e-4,
    "optim.beta1": 0.9,
    "augment.copies": 1,
    "augment.shift_vox": 8,
    "augment.rotate": True,
}


def unit_points(space: Space):
    return st.lists(st.floats(0, 1), min_size=space.dimension, max_size=space.dimension)


def test_nomura_has_the_eleven_parameters_of_the_poster():
    assert NOMURA.dimension == 11
    assert NOMURA.check(USUAL) == USUAL


def test_an_integer_is_at_the_centre_of_its_bin():
    depth = NOMURA.parameters[1]
    assert [depth.to_unit(v, {}) for v in (2, 3, 4)] == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    assert [depth.from_unit(u, {}) for u in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [
        2,
        2,
        3,
        3,
        4,
        4,
    ]


def test_the_learning_rate_is_logarithmic():
    lr = next(p for p in NOMURA if p.name == "optim.lr")
    assert lr.to_unit(1e-5, {}) == pytest.approx(3 / 6)  # 1e-8 ... 1e-2 are six decades
    assert lr.from_unit(1.0, {}) == 1e-2


def test_the_shift_reaches_half_of_the_patch():
    shift = next(p for p in NOMURA if p.name == "augment.shift_vox")
    assert shift.choices({"patches.size_vox": 32}) == range(17)
    assert shift.from_unit(1.0, {"patches.size_vox": 32}) == 16
    assert shift.from_unit(1.0, {"patches.size_vox": 64}) == 32
    with pytest.raises(ConfigError, match=r"shift_vox=17 is not in the search space: 0, 1"):
        NOMURA.check(USUAL | {"augment.shift_vox": 17})


@pytest.mark.parametrize("space", [NOMURA, parse_space(CONDITIONAL)], ids=["nomura", "conditional"])
@given(data=st.data())
def test_every_point_of_the_cube_is_valid_and_maps_back(space, data):
    params = space.from_unit(data.draw(unit_points(space)))
    assert space.check(params) == params
    again = space.from_unit(space.to_unit(params))
    assert again == pytest.approx(params)


def test_a_conditional_parameter_is_absent_without_its_condition():
    space = parse_space(CONDITIONAL)
    assert space.from_unit([0.2, 0.9, 0.5, 0.9]) == {
        "loss": "bce",
        "units": 22,  # the geometric middle of 1/2 and 1000 1/2
        "version": 2,
        "flip": True,
    }
    assert "gamma" in space.from_unit([0.8, 0.9, 0.5, 0.9])
    with pytest.raises(ConfigError, match=r"gamma=1.0 is set, but it only exists when loss is"):
        space.check({"loss": "bce", "gamma": 1.0, "units": 3, "flip": True})


def test_draws_follow_the_prior():
    space = parse_space(
        {
            "parameters": {
                "lr": {
                    "kind": "float",
                    "low": "1e-8",
                    "high": "1e1",
                    "log": True,
                    "prior": {"center": "3e-4", "spread": 10},
                },
                "loss": CONDITIONAL["parameters"]["loss"],
            }
        }
    )
    rng = np.random.default_rng(0)
    draws = [space.sample_prior(rng) for _ in range(2000)]
    log_lr = np.log10([d["lr"] for d in draws])
    assert np.median(log_lr) == pytest.approx(np.log10(3e-4), abs=0.15)
    assert np.mean([d["loss"] == "bce" for d in draws]) == pytest.approx(3 / 4, abs=0.04)
    at, off = {"lr": 3e-4, "loss": "bce"}, {"lr": 3e-3, "loss": "bce"}
    one_sigma = 0.01 + 0.99 * np.exp(-1 / 2)  # 1% of the prior is uniform
    assert space.log_prior(at) - space.log_prior(off) == pytest.approx(-np.log(one_sigma))


def test_a_wrong_prior_excludes_no_value():
    narrow = {"low": 0.0, "high": 1.0, "prior": {"center": 0.0, "spread": 0.001}}
    words = {"values": ["a", "b"], "prior": {"weights": [1, 1.0e-300]}}
    space = parse_space(
        {
            "parameters": {
                "x": {"kind": "float", **narrow},
                "word": {"kind": "categorical", **words},
            }
        }
    )
    assert space.log_prior({"x": 0.0, "word": "a"}) == 0
    assert space.log_prior({"x": 1.0, "word": "a"}) == pytest.approx(np.log(0.01))
    assert space.log_prior({"x": 1.0, "word": "b"}) == pytest.approx(2 * np.log(0.01))


def test_the_points_of_a_finite_space_are_listed():
    space = parse_space(
        {
            "parameters": {
                "size": {"kind": "ordinal", "values": [2, 4]},
                "step": {"kind": "int", "low": 1, "high": 4, "at_most": {"of": "size"}},
                "fixed": {"kind": "fixed", "value": 7},
                "flip": {"kind": "bool", "when": {"step": [1]}},
            }
        }
    )
    points = list(space.points())
    assert [(p["size"], p["step"], p.get("flip")) for p in points] == [
        *((2, 1, flip) for flip in (False, True)),
        (2, 2, None),
        *((4, 1, flip) for flip in (False, True)),
        *((4, step, None) for step in (2, 3, 4)),
    ]
    assert all(space.check(p) == p for p in points)


def test_a_space_with_a_float_has_no_list_of_points():
    assert not NOMURA.finite
    assert list(NOMURA.points()) == []


def test_equal_points_have_equal_keys():
    assert point_key({"a": 1, "b": True}) == point_key({"b": True, "a": 1})


def test_an_unknown_name_in_a_point_is_refused_with_a_suggestion():
    with pytest.raises(
        ConfigError, match=r"optim.lrr is not in the search space; did you mean optim.lr\?"
    ):
        NOMURA.check(USUAL | {"optim.lrr": 1})
    with pytest.raises(ConfigError, match=r"model.depth is missing"):
        NOMURA.check({k: v for k, v in USUAL.items() if k != "model.depth"})
