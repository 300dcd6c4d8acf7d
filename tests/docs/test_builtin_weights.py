"""The built-in model lists the phantoms that it has seen, and none of the held-out ones."""

import pytest
import torch

from docs.builtin_weights import HELD_OUT, scans_seen
from nodule_det.checkpoint import Checkpoint, Meta, save_checkpoint
from nodule_det.config.train import ModelConfig
from nodule_det.data.phantom.make import series_uid
from nodule_det.origin import UNKNOWN, ScanRecord


def checkpoint(folder, scans):
    path = folder / "best.pt"
    meta = Meta(ModelConfig(depth=2, filters=4), 1.0, 12.0, "0.1.0", scans=scans)
    save_checkpoint(path, Checkpoint(meta, {"w": torch.zeros(1)}))
    return path


def test_the_record_is_that_of_the_checkpoint(tmp_path):
    record = ScanRecord.of(["2.25.1", "2.25.2"], ["2.25.3"])
    assert scans_seen(checkpoint(tmp_path, record)) == record


def test_a_network_that_does_not_say_what_it_has_seen_is_not_published(tmp_path):
    with pytest.raises(SystemExit, match=r"best\.pt does not list the scans that it was trained"):
        scans_seen(checkpoint(tmp_path, UNKNOWN))


def test_a_network_that_has_seen_a_held_out_phantom_is_not_published(tmp_path):
    held_out = series_uid(HELD_OUT.seed + 3, HELD_OUT)
    for record in (ScanRecord.of(["a", held_out], []), ScanRecord.of(["a"], [held_out])):
        with pytest.raises(SystemExit, match="has seen 1 of the held-out phantoms"):
            scans_seen(checkpoint(tmp_path, record))
