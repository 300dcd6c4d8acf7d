"""Where patches are cut."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.config.train import PatchConfig
from nodule_det.data.feed.draws import Stream, generator
from nodule_det.data.feed.patches import Kind, PatchPlan, rim_vox
from nodule_det.errors import ConfigError, StoreError
from tests.data.memory_scan import MemoryScan, finding, noise

AIR = np.full((64, 72, 80), -1000, np.int16)
NEAR_A_CORNER = finding((3.4, 5.0, 77.0), 6.0)
SCANS = (
    MemoryScan(AIR, (finding((30.0, 40.0, 50.0), 8.0), finding((50.0, 20.0, 20.0), 4.0))),
    MemoryScan(AIR, (NEAR_A_CORNER, finding((10.0, 60.0, 40.0), 30.0, excluded=True))),
    MemoryScan(AIR),
)


class Patch(NamedTuple):
    scan: int
    corner: tuple[int, int, int]
    point: tuple[int, int, int]
    kind: Kind


def draw(plan, epoch, numbers):
    found = plan.draw(epoch, np.asarray(numbers))
    columns = (found.scan.tolist(), found.corner.tolist(), found.point.tolist(), found.kind)
    return [Patch(s, tuple(c), tuple(p), Kind(k)) for s, c, p, k in zip(*columns, strict=True)]


def draw_epoch(plan, epoch):
    return draw(plan, epoch, range(sum(plan.counts)))


def drawn_one_by_one(scans, config, seed, epoch, number):
    """Draw a patch as the first versions did, with a generator of NumPy's for each."""
    counts = PatchPlan(scans, config, seed).counts
    kind, place = Kind.LESION, number
    while place >= counts[kind]:
        place -= counts[kind]
        kind = Kind(kind + 1)
    turn = epoch * counts[kind] + place
    rng = generator(Stream.PATCH, seed, epoch, number)
    lesions = [
        (i, tuple(np.rint(scan.grid.to_voxel(f.center_mm)).astype(int).tolist()))
        for i, scan in enumerate(scans)
        for f in scan.findings
        if not f.excluded
    ]
    n = len(lesions) if kind is Kind.LESION else len(scans)
    round_, place = divmod(turn, n)
    whose = int(generator(Stream.TURN, seed, int(kind), round_).permutation(n)[place])
    if kind is Kind.LESION:
        scan, point = lesions[whose]
    else:
        for scan in (*range(whose, n), *range(whose)):
            stored = scans[scan]
            blocks = stored.vessels if kind is Kind.VESSEL else stored.lung
            if len(blocks):
                break
        block = blocks[rng.integers(len(blocks))]
        point = tuple((block + rng.integers(4, size=3)).tolist())
    rim = config.size_vox // 8
    low, high = np.asarray(point) - (config.size_vox - 1 - rim), np.asarray(point) - rim
    corner = tuple(rng.integers(low, high, endpoint=True).tolist())
    return Patch(scan, corner, point, kind)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.sampled_from([16, 32, 64]))
def test_patches_are_those_that_were_drawn_one_by_one(seed, epoch, size_vox):
    blocks = np.argwhere(np.ones((9, 11, 13), bool)) * 4
    scans = (
        *SCANS,
        MemoryScan(AIR, lung=blocks, vessels=np.empty((0, 3), int)),
        MemoryScan(AIR, lung=blocks[::7], vessels=blocks[::3]),
    )
    config = PatchConfig(per_epoch=40, size_vox=size_vox)
    numbers = np.random.default_rng(seed).permutation(40)
    expected = [drawn_one_by_one(scans, config, seed, epoch, int(k)) for k in numbers]
    assert draw(PatchPlan(scans, config, seed), epoch, numbers) == expected


def test_an_epoch_of_twenty_holds_ten_lesions_five_vessels_and_five_of_lung():
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=20), seed=0)
    kinds = Counter(patch.kind for patch in draw_epoch(plan, 3))
    assert kinds == {Kind.LESION: 10, Kind.VESSEL: 5, Kind.LUNG: 5}


@given(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1))
def test_shares_always_sum_to_the_epoch(per_epoch, positive, rest):
    config = PatchConfig(
        per_epoch=per_epoch, positive_fraction=positive, vessel_fraction=rest * (1 - positive)
    )
    counts = PatchPlan(SCANS, config, seed=0).counts
    assert sum(counts) == per_epoch
    assert min(counts) >= 0


def test_each_lesion_is_seen_equally_often_whether_alone_in_its_scan_or_not():
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=8, positive_fraction=0.5), seed=5)
    points = Counter(p.point for e in range(6) for p in draw_epoch(plan, e) if p.kind == 0)
    assert points == {(30, 40, 50): 8, (50, 20, 20): 8, (3, 5, 77): 8}  # 6 x 4 = 3 x 8


@settings(max_examples=50)
@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.sampled_from([32, 64]))
def test_the_point_lies_in_the_patch_away_from_its_faces(seed, epoch, size_vox):
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=8, size_vox=size_vox), seed)
    for patch in draw_epoch(plan, epoch):
        inside = np.asarray(patch.point) - patch.corner
        assert (inside >= rim_vox(size_vox)).all()
        assert (inside < size_vox - rim_vox(size_vox)).all()


def test_points_reach_every_place_between_the_rims():
    plan = PatchPlan(
        SCANS[:1], PatchConfig(per_epoch=3000, positive_fraction=1, vessel_fraction=0), 0
    )
    inside = np.array([np.subtract(p.point, p.corner) for p in draw_epoch(plan, 0)])
    for axis in range(3):
        assert set(inside[:, axis]) == set(range(4, 28))


def test_a_negative_lies_in_a_block_of_its_kind():
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=40, positive_fraction=0), seed=1)
    for patch in draw_epoch(plan, 0):
        block = tuple(4 * (v // 4) for v in patch.point)
        assert block in {Kind.VESSEL: [(40, 36, 32)]}.get(patch.kind, [(20, 24, 28), (40, 36, 32)])


def test_a_patch_does_not_depend_on_what_was_drawn_before_it():
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=12), seed=7)
    forward = draw_epoch(plan, 2)
    alone = [draw(PatchPlan(SCANS, PatchConfig(per_epoch=12), 7), 2, [k])[0] for k in range(12)]
    assert alone == forward


def test_seeds_and_epochs_differ():
    config = PatchConfig(per_epoch=12)
    first, other_seed = (PatchPlan(SCANS, config, seed) for seed in (0, 1))
    assert draw_epoch(first, 0) != draw_epoch(other_seed, 0)
    assert draw_epoch(first, 0) != draw_epoch(first, 1)


def test_scans_without_lesions_give_negatives_only():
    plan = PatchPlan(SCANS, PatchConfig(per_epoch=60), seed=0)
    kinds = {p.kind for e in range(3) for p in draw_epoch(plan, e) if p.scan == 2}
    assert kinds == {Kind.VESSEL, Kind.LUNG}


def test_a_scan_without_vessels_is_passed_over():
    bare = MemoryScan(AIR, vessels=np.empty((0, 3), int))
    plan = PatchPlan((bare, SCANS[2]), PatchConfig(positive_fraction=0, vessel_fraction=1), seed=0)
    assert {patch.scan for patch in draw_epoch(plan, 0)} == {1}


def test_a_patch_larger_than_a_scan_is_refused_by_name():
    small = MemoryScan(noise(size_vox=(40, 70, 80)), series_uid="1.9.4")
    with pytest.raises(
        ConfigError, match=r"patches.size_vox=64 .* lung box of scan 1.9.4, 40 x 70 x 80 voxels"
    ):
        PatchPlan((SCANS[0], small), PatchConfig(size_vox=64), seed=0)


def test_scans_without_any_lesion_are_refused():
    with pytest.raises(StoreError, match=r"none of 1 scan .* lesion: |positive_fraction=0.5"):
        PatchPlan(SCANS[2:], PatchConfig(), seed=0)


def test_scans_without_any_lung_are_refused():
    bare = MemoryScan(AIR, lung=np.empty((0, 3), int))
    plan = PatchPlan((bare,), PatchConfig(positive_fraction=0, vessel_fraction=0), seed=0)
    with pytest.raises(StoreError, match=r"none of 1 scan .* lung blocks .* summary.png"):
        draw(plan, 0, [0])


def test_a_lesion_outside_its_scan_is_refused_by_name():
    outside = MemoryScan(AIR, (finding((-3.0, 4.0, 5.0), 6.0),), series_uid="1.8")
    with pytest.raises(StoreError, match=r"scan 1.8: the lesion at \(-35.0, 16.5, 297.0\) mm"):
        PatchPlan((outside,), PatchConfig(), seed=0)
