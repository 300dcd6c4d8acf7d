"""The parts of a run fit each other and the settings."""

import torch

from nodule_det.origin import ScanRecord
from nodule_det.runs import RunFolder
from nodule_det.train.assemble import assemble
from nodule_det.train.distributed import World
from tests.train.tiny_run import tiny

CPU = torch.device("cpu")


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
