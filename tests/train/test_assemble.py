"""The parts of a run fit each other and the settings."""

import pytest
import torch

from nodule_det.config.train import FeedConfig
from nodule_det.errors import DeviceMemoryError
from nodule_det.origin import ScanRecord
from nodule_det.runs import RunFolder
from nodule_det.train.assemble import assemble
from nodule_det.train.distributed import World
from tests.train.tiny_run import name_patients, tiny, write_tiny_store

CPU = torch.device("cpu")


def test_scans_that_do_not_fit_the_device_name_the_setting_to_lower(store, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("nodule_det.train.assemble.make_feed", full)
    config = tiny(store, tmp_path, feed=FeedConfig(memory_gb=100))
    message = (
        r"no memory left for training scans \(feed.memory_gb=100\); set a lower feed.memory_gb"
    )
    with pytest.raises(DeviceMemoryError, match=message):
        assemble(config, RunFolder(tmp_path), World(), CPU, torch.float32)


def test_equal_settings_give_equal_weights_and_the_record_of_their_scans(store, tmp_path):
    one, other = (
        assemble(tiny(store, tmp_path), RunFolder(tmp_path), World(), CPU, torch.float32)
        for _ in range(2)
    )
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert one.meta.scans == ScanRecord.of(["1.2.1", "1.2.3"], ["1.2.0", "1.2.2", "1.2.4"])
    assert len(one.validation_scans) == 3
    assert one.total_steps == 18


def test_the_record_of_a_network_lists_the_patients_that_the_store_knows(tmp_path):
    patients = {f"1.2.{n}": f"p{n:020x}" for n in range(3)}
    store, run = tmp_path / "store", RunFolder(tmp_path / "run")
    store.mkdir()
    run.path.mkdir()
    write_tiny_store(store, scans=4, folds=2)
    name_patients(store, {**patients, "1.2.3": "0123456789abcdef"})  # as an earlier version did
    meta = assemble(tiny(store, run.path), run, World(), CPU, torch.float32).meta
    assert meta.scans == ScanRecord.of(["1.2.1", "1.2.3"], ["1.2.0", "1.2.2"], patients)
    assert (len(meta.scans.trained_patients), len(meta.scans.selected_patients)) == (1, 2)
