"""Masks of real files: NIfTI, MetaImage and a store; parts, points, and MONAI's rule for points."""

import numpy as np
import pytest
from monai.metrics.froc import compute_fp_tp_probs_nd

from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, write_info, write_scan
from nodule_det.errors import FrocInputError, ScanError, StoreError
from nodule_det.evaluate.masks import (
    LabelMap,
    open_masks,
    rules_of_masks,
    rules_of_two_masks,
)
from nodule_det.files import write_json
from nodule_det.froc import MISSED, NO_LESIONS, Candidates, Lesions, match
from nodule_det.geometry import Grid
from tests.data.scan_files import GRIDS, ROTATED, UPRIGHT, write_file

SIZE = UPRIGHT.size_vox


def labels(*boxes, size=SIZE):
    """Draw boxes of (label, slices) in a volume of zeros."""
    drawn = np.zeros(size, np.uint8)
    for label, box in boxes:
        drawn[box] = label
    return drawn


ONE = np.s_[1:3, 1:4, 1:4]
TWO = np.s_[1:3, 1:4, 4:6]  # touches the first
FAR = np.s_[4:6, 6:9, 6:8]


def test_each_label_falls_into_its_connected_parts():
    parts = LabelMap.of(labels((1, ONE), (2, TWO), (1, FAR)), UPRIGHT).parts
    assert parts.max() == 3
    assert len({int(parts[box].max()) for box in (ONE, TWO, FAR)}) == 3
    assert (parts[ONE] == parts[ONE].max()).all()


def test_voxels_that_share_a_corner_are_one_part():
    parts = LabelMap.of(labels((1, np.s_[0, 0, 0]), (1, np.s_[1, 1, 1])), UPRIGHT).parts
    assert parts.max() == 1


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_point_lies_in_the_voxel_that_is_nearest(grid):
    label_map = LabelMap.of(labels((1, ONE)), grid)
    inside, outside = grid.to_world([2.4, 3.4, 3.4]), grid.to_world([2.6, 3.4, 3.4])
    beyond = grid.to_world([-3, -3, -3])
    assert label_map.at(np.stack([inside, outside, beyond])).tolist() == [1, 0, 0]


def test_the_nearest_part_within_reach():
    label_map = LabelMap.of(labels((1, ONE), (1, FAR)), UPRIGHT)
    point = UPRIGHT.to_world([2, 3, 5])  # 2 voxels of 0.8 mm from the first part
    assert label_map.nearest(point, 1.7) == label_map.parts[ONE].max()
    assert label_map.nearest(point, 1.5) == 0
    assert label_map.nearest(UPRIGHT.to_world([99, 99, 99]), 5.0) == 0


def tables(grid=UPRIGHT):
    """Two lesions in scan a; candidates in the first's corner, in neither, and in the second."""
    at = grid.to_world([[2, 2, 2], [5, 7, 6]])
    points = grid.to_world([[1, 1, 1], [0, 8, 0], [4, 6, 7], [2, 2, 2]])
    lesions = Lesions(["a", "a"], at, [1.0, 1.0])
    return lesions, Candidates(["a", "a", "a", "b"], points, [0.9, 0.8, 0.7, 0.6]), NO_LESIONS


def matched(rules, three):
    lesions, candidates, excluded = three
    return match(["a", "b"], lesions, candidates, excluded, rules)


@pytest.mark.parametrize("name", ["a.nii.gz", "deep/er/a.mha", "a.nii", "a.nrrd"])
def test_candidates_in_the_mask_of_a_file_are_hits(tmp_path, name):
    write_file(tmp_path / name, labels((1, ONE), (2, FAR)), ROTATED)
    three = tables(ROTATED)
    outcome = matched(rules_of_masks(open_masks(tmp_path), np.array(["a", "b"]), three), three)
    assert outcome.lesion_row.tolist() == [0, 2]
    assert outcome.fp_row.tolist() == [1, 3]
    # By the distance to the centre (0.5 mm) none of them is a hit.
    assert matched(None, three).lesion_row.tolist() == [MISSED, MISSED]


def test_candidates_in_the_mask_of_a_store_are_hits(tmp_path):
    three = tables()
    write_info(tmp_path, StoreInfo({"spacing_mm": 1.0, "margin_mm": 12.0}))
    (tmp_path / "scans").mkdir()
    whole = np.ones(SIZE, bool)
    for uid, drawn in (("a", labels((1, ONE), (1, FAR))), ("b", None)):
        hu = np.zeros(SIZE, np.int16)
        prepared = Prepared(hu, UPRIGHT, whole, drawn, UPRIGHT.spacing_mm)
        entry = ScanEntry(uid, tmp_path, uid, (Finding((0.0, 0.0, 0.0), 5.0),))
        write_scan(tmp_path / "scans", entry, prepared)
    write_json(tmp_path / "splits.json", {"how": {}, "folds": {"a": 0, "b": 0}})
    outcome = matched(rules_of_masks(open_masks(tmp_path), np.array(["a", "b"]), three), three)
    assert outcome.lesion_row.tolist() == [0, 2]
    with pytest.raises(ScanError, match="has no masks of scan b; use the one that has it"):
        open_masks(tmp_path)("b")
    with pytest.raises(ScanError, match="has no scan c"):
        open_masks(tmp_path)("c")


@pytest.mark.parametrize("seed", range(10))
def test_points_in_masks_agree_with_monai(tmp_path, seed):
    rng = np.random.default_rng(seed)
    grid = Grid((20, 30, 30), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    drawn = np.zeros(grid.size_vox, np.uint8)
    corners = [(z, y, x) for z in (2, 11) for y in (3, 17) for x in (2, 18)]
    for label, (z, y, x) in enumerate(corners, 1):
        depth, height, width = rng.integers(2, 7, 3)
        drawn[z : z + depth, y : y + height, x : x + width] = label
    write_file(tmp_path / "a.nii.gz", drawn, grid)
    centers = np.array([np.argwhere(drawn == k + 1).mean(axis=0) for k in range(8)])
    voxel = np.stack([rng.integers(0, n, 60) for n in grid.size_vox], axis=1)
    scores = rng.permutation(60) / 60 + 0.01
    three = (
        Lesions(["a"] * 8, grid.to_world(centers), [4.0] * 8),
        Candidates(["a"] * 60, grid.to_world(voxel), scores),
        NO_LESIONS,
    )
    rules = rules_of_masks(open_masks(tmp_path), np.array(["a"]), three)
    ours = match(["a"], three[0], three[1], NO_LESIONS, rules)
    fp, tp, n = compute_fp_tp_probs_nd(scores, voxel, drawn)
    assert n == 8
    np.testing.assert_allclose(np.where(ours.found, ours.lesion_score, 0), tp, atol=1e-6)
    np.testing.assert_array_equal(np.sort(ours.fp_score), np.sort(fp))


def test_masks_of_both_decide_by_their_overlap(tmp_path):
    # The first candidate covers 9 of the lesion's 18 voxels and nothing else: IoU 1/2.  The third
    # covers its lesion of 12 voxels and 6 more: IoU 2/3.
    write_file(tmp_path / "truth/a.nii.gz", labels((1, ONE), (2, FAR)))
    drawn = labels((1, np.s_[1, 1:4, 1:4]), (5, np.s_[3:6, 6:9, 6:8]), (3, np.s_[0, 8, 0]))
    write_file(tmp_path / "found/a.nii.gz", drawn)
    three = tables()
    both = (open_masks(tmp_path / "truth"), open_masks(tmp_path / "found"))
    for least, found in ((0.1, [0, 2]), (0.5, [0, 2]), (0.51, [MISSED, 2]), (0.7, [MISSED] * 2)):
        rules = rules_of_two_masks(both, np.array(["a", "b"]), three, least)
        assert matched(rules, three).lesion_row.tolist() == found


def test_a_candidate_without_its_mask_is_refused(tmp_path):
    write_file(tmp_path / "truth/a.nii.gz", labels((1, ONE), (2, FAR)))
    write_file(tmp_path / "found/a.nii.gz", labels())
    both = (open_masks(tmp_path / "truth"), open_masks(tmp_path / "found"))
    with pytest.raises(FrocInputError, match=r"candidate row 0 of scan a at .* has no part"):
        rules_of_two_masks(both, np.array(["a"]), tables(), 0.1)


def test_masks_of_different_grids_are_refused(tmp_path):
    write_file(tmp_path / "truth/a.nii.gz", labels((1, ONE), (2, FAR)))
    write_file(tmp_path / "found/a.nii.gz", labels((1, ONE)), ROTATED)
    both = (open_masks(tmp_path / "truth"), open_masks(tmp_path / "found"))
    with pytest.raises(FrocInputError, match="the masks of scan a have different grids"):
        rules_of_two_masks(both, np.array(["a"]), tables(), 0.1)


def test_a_lesion_outside_every_part_is_refused(tmp_path):
    write_file(tmp_path / "a.nii.gz", labels((1, ONE)))
    with pytest.raises(FrocInputError, match=r"no part within 0.5 mm .* \(annotation row 1\)"):
        rules_of_masks(open_masks(tmp_path), np.array(["a"]), tables())


def test_a_missing_mask_is_named(tmp_path):
    write_file(tmp_path / "other.nii.gz", labels())
    with pytest.raises(ScanError, match=r"no label image of scan a, such as a.nii.gz; it has 1"):
        rules_of_masks(open_masks(tmp_path), np.array(["a"]), tables())
    with pytest.raises(ScanError, match="is not a folder of label images or a store"):
        open_masks(tmp_path / "nothing")
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError):
        open_masks(tmp_path)


def test_scans_that_are_not_evaluated_need_no_mask(tmp_path):
    write_file(tmp_path / "a.nii.gz", labels((1, ONE), (2, FAR)))
    lesions, candidates, _ = tables()
    more = Lesions(
        ["c", *lesions.case], np.vstack([[[0, 0, 0]], lesions.world_mm]), [5.0, 1.0, 1.0]
    )
    three = (more, candidates, NO_LESIONS)
    rules = rules_of_masks(open_masks(tmp_path), np.array(["a", "b"]), three)
    outcome = match(["a", "b"], *three, rules, drop_unknown_findings=True)
    assert outcome.lesion_row.tolist() == [0, 2]
