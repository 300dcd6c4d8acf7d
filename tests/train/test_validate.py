"""Whole scans searched and scored with untrained weights."""

from __future__ import annotations

import numpy as np
import torch

from nodule_det.candidates import ScanCandidates
from nodule_det.data.store import open_store
from nodule_det.froc import MISSED
from nodule_det.model import build_model, receptive_field
from nodule_det.train.distributed import World
from nodule_det.train.validate import lesions_of, match, validate
from tests.train.tiny_run import tiny

NOTHING = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))


def test_an_interrupted_validation_returns_none_and_keeps_the_mode(store, tmp_path):
    config = tiny(store, tmp_path)
    model = build_model(config.model).train()
    asked = []

    def stop_at_once(scan_s):
        asked.append(scan_s)
        return False

    found = validate(
        model,
        open_store(store).validation(0),
        config,
        receptive_field(config.model),
        device=torch.device("cpu"),
        dtype=torch.float32,
        world=World(),
        proceed=stop_at_once,
    )
    assert found is None
    assert len(asked) == 1
    assert asked[0] > 0
    assert model.training


def test_the_lesions_of_a_scan_are_those_that_are_not_excluded(store):
    scans = open_store(store).validation(0)  # 3 scans of two lesions and an excluded finding
    lesions, excluded = (lesions_of(scans, excluded=e) for e in (False, True))
    assert lesions.diameter_mm.tolist() == [8, 10] * 3
    assert excluded.diameter_mm.tolist() == [6] * 3
    assert lesions.case.tolist() == [scan.series_uid for scan in scans for _ in range(2)]
    np.testing.assert_array_equal(excluded.world_mm[1], scans[1].findings[2].center_mm)


def test_a_candidate_only_counts_in_its_own_scan(store):
    scans = open_store(store).validation(0)
    center_mm = np.array([scans[0].findings[0].center_mm])
    hit = ScanCandidates(center_mm, np.array([0.9]), np.array([8.0]))
    matched = match(scans, [hit, NOTHING, NOTHING])
    assert matched.lesion_row.tolist() == [0, *[MISSED] * 5]
    assert matched.fp_row.tolist() == []
    matched = match(scans, [NOTHING, hit, NOTHING])
    assert matched.lesion_row.tolist() == [MISSED] * 6
    assert matched.fp_score.tolist() == [0.9]


def test_a_validation_lists_every_scan_and_counts_every_lesion(store, tmp_path):
    config = tiny(store, tmp_path)
    torch.manual_seed(0)
    found = validate(
        build_model(config.model),
        open_store(store).validation(0),
        config,
        receptive_field(config.model),
        device=torch.device("cpu"),
        dtype=torch.float32,
        world=World(),
    )
    assert [scan.series_uid for scan in found.scans] == ["1.2.0", "1.2.2", "1.2.4"]
    assert len(found.candidates) == 3
    assert (found.froc.n_scans, found.froc.n_lesions) == (3, 6)
