"""A checkpoint is whole or absent, and a file that is not one is refused by name."""

import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nodule_det.checkpoint import (
    Checkpoint,
    Meta,
    load_checkpoint,
    load_model,
    load_weights,
    save_checkpoint,
)
from nodule_det.config.train import ModelConfig
from nodule_det.errors import CheckpointError, UnwrittenError
from nodule_det.model import ReceptiveField, build_model
from nodule_det.origin import ScanRecord

META = Meta(ModelConfig(depth=2, filters=4), 0.75, 12.0, "0.1.0", step=7)


@pytest.fixture
def saved(tmp_path):
    """Return the path of a checkpoint and what it holds."""
    torch.manual_seed(0)
    whole = Checkpoint(META, build_model(META.model).state_dict(), {"state": {"step": 7}})
    save_checkpoint(tmp_path / "last.pt", whole)
    return tmp_path / "last.pt", whole


def test_a_checkpoint_comes_back_to_the_bit(saved):
    path, whole = saved
    again = load_checkpoint(path)
    assert (again.meta, again.training) == (whole.meta, whole.training)
    assert again.weights.keys() == whole.weights.keys()
    assert all(torch.equal(again.weights[k], v) for k, v in whole.weights.items())
    model, meta = load_model(path)
    assert meta == META
    assert not model.training


def test_a_file_cut_or_whose_weights_changed_is_refused(saved):
    path, whole = saved
    content = path.read_bytes()
    middle = len(content) // 2
    at = content.index(next(iter(whole.weights.values())).numpy().tobytes())
    flipped = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for damaged in (b"", content[:middle], content[:-1], flipped):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), r"has format 2, this version reads 1"),
        (lambda c: c.pop("weights"), r"it lacks 'weights'"),
        (lambda c: c["weights"].update(bias=[1.0]), r"weights\.bias is of type list"),
        (lambda c: c["meta"].update(step="7"), r"meta\.step is of type str"),
        (lambda c: c["meta"].update(spacing_mm=0.0), r"store\.spacing_mm=0\.0 must lie in"),
        (lambda c: c["meta"]["model"].pop("depth"), r"it lacks 'depth'"),
    ],
)
def test_content_that_is_not_a_checkpoint_is_refused(saved, change, message):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_network_of_a_version_without_full_resolution_is_read(saved):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    del content["meta"]["model"]["full_resolution"]
    torch.save(content, path)
    assert load_checkpoint(path).meta.model.full_resolution is False


def test_the_scans_that_a_network_has_seen_come_back_and_no_uid_is_written(saved):
    path, whole = saved
    patients = {"1.2.840.1": f"p{1:020x}", "1.2.840.3": f"p{3:020x}"}
    record = ScanRecord.of(["1.2.840.1", "1.2.840.2"], ["1.2.840.3"], patients)
    save_checkpoint(path, replace(whole, meta=replace(META, scans=record)))
    assert load_checkpoint(path).meta.scans == record
    written = path.read_bytes()
    assert b"1.2.840" not in written
    assert not any(key.encode() in written for key in patients.values())


def test_a_record_of_a_version_without_patients_is_read(saved):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    record = ScanRecord.of(["1.2.1"], ["1.2.2"])
    names = "trained", "selected"
    old = {name: record.as_dict()[name] for name in names}
    torch.save({**content, "scans": old}, path)
    assert load_checkpoint(path).meta.scans == record


def test_a_checkpoint_without_a_record_of_scans_is_read_as_unknown(saved):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    del content["scans"]
    torch.save(content, path)
    assert not load_checkpoint(path).meta.scans.known


@pytest.mark.parametrize(
    "record",
    [
        3,
        {},
        {"trained": ["x"], "selected": []},
        {"trained": 1},
        {"trained": [], "selected": [], "trained_patients": ["Quux"]},
    ],
)
def test_a_record_of_scans_that_is_something_else_is_refused(saved, record):
    path, _ = saved
    content = torch.load(path, weights_only=True)
    torch.save({**content, "scans": record}, path)
    with pytest.raises(CheckpointError, match=r"last\.pt is not a usable checkpoint"):
        load_checkpoint(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"format": 1, "meta": Path("x")}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"format": 1}))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match=rf"{name} cannot be read"):
            load_checkpoint(tmp_path / name)


def test_weights_of_another_architecture_are_refused(saved):
    path, whole = saved
    other = build_model(replace(META.model, filters=6))
    with pytest.raises(CheckpointError, match=r"of another architecture .*'filters': 4"):
        load_weights(other, whole, path)


def test_a_disk_that_is_full_keeps_the_old_checkpoint(saved, small_disk):
    _, whole = saved
    path = small_disk("400k") / "last.pt"
    save_checkpoint(path, whole)
    large = replace(whole, weights={"a": torch.zeros(1_000_000)})
    with pytest.raises(UnwrittenError, match=r"last\.pt cannot be written"):
        save_checkpoint(path, large)
    assert load_checkpoint(path).meta == META
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "best.pt")
    with pytest.raises(
        CheckpointError, match=r"best\.pt cannot be read \(it is not a regular file\)"
    ):
        load_checkpoint(tmp_path / "best.pt")


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "best.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best/data.pkl", bytes(2**20))
    with pytest.raises(CheckpointError, match="it is compressed, which torch's files are not"):
        load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize(
    "change",
    [
        {"measured": None},
        {"measured": {"stride_vox": 0, "radius_vox": None, "window_vox": 32, "bytes_per_voxel": 9}},
        {"measured": [4, 12]},
        {"model": {"factory": ""}},
        {"model": {"factory": "os.system; x"}},
        {"model": {"kwargs": [1]}},
    ],
)
def test_a_measured_field_that_does_not_belong_to_the_network_is_refused(saved, change):
    path, whole = saved
    own = ModelConfig(factory="my_package.my_net", kwargs={"width": 4})
    field = ReceptiveField(stride_vox=2, radius_vox=None, window_vox=32, bytes_per_voxel=9)
    save_checkpoint(path, replace(whole, meta=replace(META, model=own, measured=field)))
    assert load_checkpoint(path).meta.receptive_field == field
    content = torch.load(path, weights_only=True)
    content["meta"]["model"] |= change.get("model", {})
    content["meta"] |= {k: v for k, v in change.items() if k != "model"}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="is not a usable checkpoint"):
        load_checkpoint(path)
