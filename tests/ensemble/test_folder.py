"""A model folder is written completely, and refused if it has changed."""

import json
from pathlib import Path

import pytest

from nodule_det.ensemble.calibration import fit_calibration
from nodule_det.ensemble.folder import Model, named_model, read_model, write_model
from nodule_det.errors import CheckpointError, ConfigError
from tests.analysis.froc_jobs import matched


@pytest.fixture
def written(tmp_path):
    members = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.pt").write_bytes(name.encode() * 1000)
        members.append(tmp_path / f"{name}.pt")
    outcome = matched([(0, 0.9), (1, 0.8)], [(0, 0.4), (1, 0.2)], 2)
    model = Model(
        path=tmp_path / "model",
        members=tuple(members),
        thresholds={"1": 0.4, "0.125": None},
        calibration=fit_calibration(outcome),
        figures={"pauc": 0.9, "label": "cross-validated"},
        settings={"optim.lr": "0.001"},
        data="abc",
        licence="CC BY 4.0",
    )
    write_model(model)
    return model


def edit(path, **changes):
    content = json.loads((path / "model.json").read_text())
    content.pop("checksum", None)  # as an earlier version wrote it
    (path / "model.json").write_text(json.dumps({**content, **changes}))


def test_a_written_model_is_read_back(written):
    model = read_model(written.path)
    assert [path.name for path in model.members] == ["member0.pt", "member1.pt"]
    assert [path.read_bytes() for path in model.members] == [b"a" * 1000, b"b" * 1000]
    for name in ("thresholds", "calibration", "figures", "settings", "data", "licence"):
        assert getattr(model, name) == getattr(written, name)


def test_the_builtin_model_is_whole_small_and_says_what_it_is():
    model = named_model("builtin", [])
    assert sum(path.stat().st_size for path in model.path.iterdir()) < 5_000_000
    assert model.calibration is not None
    assert "held-out phantoms" in model.figures["label"]
    assert "synthetic" in model.licence
    assert model.thresholds["1"] > model.thresholds["8"]


def test_any_other_name_of_a_model_is_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match="is not a model folder") as refused:
        named_model(str(tmp_path / "builtin"), [])
    assert str(tmp_path / "builtin") in str(refused.value)


def test_checkpoints_are_a_model_without_figures():
    model = named_model("", ["a.pt", "b.pt"])
    assert model.members == (Path("a.pt"), Path("b.pt"))
    assert (model.calibration, model.figures) == (None, {})


def test_a_model_with_fewer_members_leaves_no_old_ones(written):
    write_model(Model(path=written.path, members=written.members[:1]))
    assert sorted(path.name for path in written.path.iterdir()) == ["member0.pt", "model.json"]
    assert read_model(written.path).calibration is None


def test_a_damaged_or_missing_member_is_named(written):
    member = written.path / "member1.pt"
    member.write_bytes(b"b" * 999 + b"x")
    with pytest.raises(CheckpointError, match="differs from the SHA-256 in"):
        read_model(written.path)
    member.unlink()
    with pytest.raises(CheckpointError, match="lacks its member member1"):
        read_model(written.path)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": []},
        {"members": "member0.pt"},
        {"members": [{"file": "../secret", "sha256": ""}]},
        {"members": [{}]},
        {"members": None},
        {"calibration": {"slope": -1}},
        {"calibration": []},
        {"thresholds": {"1": "0.4"}},
        {"thresholds": 3},
        {"figures": 3},
    ],
)
def test_an_invalid_model_json_is_refused(written, changes):
    edit(written.path, **changes)
    with pytest.raises(CheckpointError, match=r"model.json is damaged \("):
        read_model(written.path)


def test_a_threshold_that_differs_from_the_checksum_is_refused(written):
    file = written.path / "model.json"
    file.write_text(file.read_text().replace('"1": 0.4', '"1": 0.1'))
    with pytest.raises(
        CheckpointError, match=r"model\.json is damaged \(differs from its checksum"
    ):
        read_model(written.path)


def test_a_newer_format_and_a_folder_without_a_model_are_refused(written, tmp_path):
    edit(written.path, format=2)
    with pytest.raises(CheckpointError, match="has format 2, but this version reads 1"):
        read_model(written.path)
    with pytest.raises(CheckpointError, match=r"is not a model folder: it has no model\.json"):
        read_model(tmp_path / "nowhere")


def test_a_model_without_members_or_with_missing_ones_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="at least one checkpoint"):
        write_model(Model(path=tmp_path / "m", members=()))
    with pytest.raises(CheckpointError, match=r"gone\.pt does not exist"):
        write_model(Model(path=tmp_path / "m", members=(tmp_path / "gone.pt",)))
    assert not (tmp_path / "m" / "model.json").exists()
