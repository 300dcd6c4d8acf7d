"""A model folder is written completely, and refused if it has changed."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from nodule_det.ensemble.calibration import fit_calibration
from nodule_det.ensemble.folder import Model, add_figures, named_model, read_model, write_model
from nodule_det.errors import CheckpointError, ConfigError
from nodule_det.origin import UNKNOWN, ScanRecord
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


@pytest.mark.parametrize("problem", ["missing", "full disk", "listed twice"])
def test_a_model_that_cannot_be_written_leaves_the_earlier_one(
    written, tmp_path, monkeypatch, problem
):
    (tmp_path / "c.pt").write_bytes(b"c" * 1000)
    members = [tmp_path / "c.pt", tmp_path / "c.pt"]
    error: type[Exception] = ConfigError
    if problem == "missing":
        members[1], error = tmp_path / "none.pt", CheckpointError
    if problem == "full disk":
        error = OSError

        def full(source, target):
            if source == members[1]:
                raise OSError(28, "No space left on device")
            target.write_bytes(source.read_bytes())

        members[1] = written.members[0]
        monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(error):
        write_model(Model(path=written.path, members=tuple(members)))
    assert read_model(written.path).licence == "CC BY 4.0"
    assert len(list(written.path.iterdir())) == 3


def test_a_damaged_or_missing_member_is_named(written):
    member = written.path / "member1.pt"
    member.write_bytes(b"b" * 999 + b"x")
    with pytest.raises(CheckpointError, match="differs from the SHA-256 in"):
        read_model(written.path)
    member.unlink()
    with pytest.raises(CheckpointError, match="lacks its member member1"):
        read_model(written.path)


NETWORK = {"file": "member0.pt", "sha256": hashlib.sha256(b"a" * 1000).hexdigest()}
CALIBRATION = {
    "slope": 2.0, "intercept": 0.0, "scores": [0.9, 0.5], "fp_per_scan": [1.0, 2.0],
    "n_scans": 2, "n_lesions": 2,
}  # fmt: skip


def damaged(name, *values, why):
    return [pytest.param({name: value}, why, id=f"{name}={value!r:.40}") for value in values]


def named(*names):
    return [[{"file": name, "sha256": NETWORK["sha256"]}] for name in names]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        *damaged("format", True, "1", 1.0, None, why="format must be an integer, but it is "),
        *damaged("members", [], why="it has no members"),
        *damaged("members", None, "m.pt", 3, {}, why="members must be a list, but it is "),
        *damaged("members", ["m.pt"], [None], [[1]], why="a member must be an object, but it is "),
        *damaged("members", [{}], [{"sha256": ""}], why="file is missing"),
        *damaged("members", [{"file": "member0.pt"}], why="sha256 is missing"),
        *damaged("members", [{"file": 3, "sha256": ""}], why="file must be text, but it is 3"),
        *damaged(
            "members", [{"file": "member0.pt", "sha256": None}], why="sha256 must be text, but it "
        ),
        *damaged(
            "members",
            *named("", " ", ".", "..", "../a.pt", "/etc/passwd", "a/member0.pt", "..\\a.pt", "a/..",
                   "member0.pt/", "a\0b", "a\nb", "\udcff", "\u202egnp.tp", "m" * 300),
            why="is not a plain file name",
        ),
        *damaged(
            "members",
            [NETWORK, NETWORK],
            why="the same network is listed twice, as member0.pt)",
        ),
        *damaged(
            "members",
            [NETWORK, {**NETWORK, "file": "copy.pt"}],
            why="the same network is listed twice, as member0.pt and copy.pt)",
        ),
        *damaged("thresholds", 3, [], [["1", 0.4]], None, why="thresholds must be an object, but "),
        *damaged(
            "thresholds", {"1": "0.4"}, {"1": True}, {"1": {}}, {"1": 10**400},
            why="the threshold for 1 FP/scan must be a finite number, but it is ",
        ),
        *damaged(
            "thresholds", {"": 0.4}, {"one": 0.4}, {"-1": 0.4}, {"nan": 0.4}, {"1e999": 0.4},
            why="which is not a number of FP/scan",
        ),
        *damaged("thresholds", {"1": float("nan")}, why="NaN is not a finite number"),
        *damaged("thresholds", {"1": float("inf")}, why="Infinity is not a finite number"),
        *damaged("calibration", [], 3, "x", False, why="calibration must be an object, but it is "),
        *damaged("calibration", {}, {"slope": -1}, why="scores is missing"),
        *damaged("calibration", {**CALIBRATION, "slope": -1.0}, {**CALIBRATION, "scores": []},
                 {**CALIBRATION, "scores": [0.5, 0.9]}, {**CALIBRATION, "fp_per_scan": [1.0]},
                 why="calibration is not monotone"),
        *damaged("calibration", {**CALIBRATION, "scores": "ab"}, why="scores must be a list, but"),
        *damaged("calibration", {**CALIBRATION, "scores": ["a", 1]},
                 why='a score of calibration must be a finite number, but it is "a"'),
        *damaged("calibration", {**CALIBRATION, "intercept": None},
                 why="calibration.intercept must be a finite number, but it is missing or null"),
        *damaged("calibration", {**CALIBRATION, "n_scans": -1}, {**CALIBRATION, "n_scans": 2.5},
                 why="calibration.n_scans must be a count, but it is "),
        *damaged("figures", 3, [["pauc", 1]], "", None, why="figures must be an object, but it is"),
        *damaged("settings", 3, [["a", "b"]], None, why="settings must be an object, but it is "),
        *damaged("data", {}, {"a": 1}, [], 3, True, None, why="data must be text, but it is "),
        *damaged("licence", {}, [], 3, None, why="licence must be text, but it is "),
        *damaged("scans", [], 3, "x", None, why="scans must be an object, but it is "),
        *damaged("scans", {}, {"trained": {}}, why="the record of scans is not a list"),
        *damaged("scans", {"trained": ["x"], "selected": []}, why="'x' is not the key of a scan"),
    ],
)  # fmt: skip
def test_a_damaged_model_json_is_refused_in_one_line_that_says_where(written, changes, why):
    shutil.copy(written.path / "member0.pt", written.path / "copy.pt")
    edit(written.path, **changes)
    with pytest.raises(CheckpointError) as refused:
        read_model(written.path)
    message = str(refused.value)
    assert message.startswith(f"{written.path / 'model.json'} is damaged (")
    assert message.endswith("); copy the model folder again")
    assert why in message
    assert len(message.removeprefix(str(written.path))) < 200
    assert message.isprintable()


@pytest.mark.parametrize("name", ["format", "members"])
def test_a_model_json_without_a_necessary_field_says_which(written, name):
    file = written.path / "model.json"
    content = json.loads(file.read_text())
    del content[name], content["checksum"]
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=rf"is damaged \({name} is missing\)"):
        read_model(written.path)


def test_a_model_json_of_its_members_only_is_read_and_gets_figures(written):
    file = written.path / "model.json"
    file.write_text(json.dumps({"format": 1, "members": [NETWORK]}))
    add_figures(written.path, "test", {"pauc": 0.5})
    model = read_model(written.path)
    assert (model.data, model.scans, model.calibration) == ("", UNKNOWN, None)
    assert model.figures == {"test": {"pauc": 0.5}}


def test_the_record_of_scans_is_read_with_patients_and_without_as_earlier_versions_wrote_it(
    written,
):
    record = ScanRecord.of(["a"], ["b"], {"a": f"p{0:020x}"})
    edit(written.path, scans=record.as_dict())
    assert read_model(written.path).scans == record
    old = {name: record.as_dict()[name] for name in ("trained", "selected")}
    edit(written.path, scans=old)
    assert read_model(written.path).scans == ScanRecord.of(["a"], ["b"])


def test_a_name_that_no_file_can_have_and_a_folder_are_missing_members(written):
    (written.path / "folder.pt").mkdir()
    for name in ("folder.pt", "\u00fc" * 199):
        edit(written.path, members=[{**NETWORK, "file": name}])
        with pytest.raises(CheckpointError, match=r"lacks its member .*; copy the folder again"):
            read_model(written.path)


def test_a_file_in_place_of_a_model_folder_is_named(written):
    network = written.path / "member0.pt"
    with pytest.raises(CheckpointError, match=rf"model={network} is a file, .* use checkpoint="):
        read_model(network)


def test_the_same_network_twice_is_not_written(written, tmp_path):
    shutil.copy(tmp_path / "a.pt", tmp_path / "same.pt")
    members = (tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "same.pt")
    with pytest.raises(ConfigError, match=r"same\.pt is the same network as another member"):
        write_model(Model(path=tmp_path / "m", members=members))
    assert not (tmp_path / "m" / "model.json").exists()


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
