"""Hits by boxes and masks: overlaps worked by hand, MONAI's matching, and what stays the same."""

import numpy as np
import pytest
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou as monai_iou

from nodule_det.analysis import mask_iou_rules, mask_rules, overlap_rules
from nodule_det.analysis.hits import box_iou
from nodule_det.errors import FrocInputError
from nodule_det.froc import MISSED, NO_LESIONS, Candidates, Lesions, match
from tests.analysis.froc_jobs import as_candidates, as_lesions

NONE = (NO_LESIONS, np.empty((0, 3)))


def boxed(table, *edges):
    return table, np.array(edges, np.float64)


def ious(*pairs):
    columns = [np.array(column, np.float64) for column in zip(*pairs, strict=True)]
    return box_iou(*columns).tolist()


def test_the_overlap_of_two_boxes_by_hand():
    whole = ((0, 0, 0), (2, 2, 2), (0, 0, 0), (2, 2, 2))
    half = ((0, 0, 0), (2, 2, 2), (1, 0, 0), (2, 2, 2))  # 4 of 8 + 8 - 4
    within = ((0, 0, 0), (4, 4, 4), (0.5, 0, 0), (2, 2, 2))  # 8 of 64
    touching = ((0, 0, 0), (2, 2, 2), (2, 0, 0), (2, 2, 2))
    apart = ((0, 0, 0), (2, 2, 2), (9, 9, 9), (2, 2, 2))
    assert ious(whole, half, within, touching, apart) == [1, 1 / 3, 1 / 8, 0, 0]


LESIONS = boxed(as_lesions([("a", 0, 0, 0, 4), ("a", 20, 0, 0, 6)]), (4, 4, 4), (6, 6, 2))
CANDIDATES = boxed(
    as_candidates(
        [
            ("a", 1, 0, 0, 0.9),  # 48 of 64 + 64 - 48 = 0.6 with the first
            ("a", 3, 0, 0, 0.8),  # 16 of 112 = 0.14
            ("a", 20, 0, 0, 0.7),  # 72 of 216: a third of its box is the second lesion
            ("b", 0, 0, 0, 0.6),  # another scan
        ]
    ),
    (4, 4, 4), (4, 4, 4), (6, 6, 6), (4, 4, 4),
)  # fmt: skip


@pytest.mark.parametrize(
    ("least", "found_by", "fps", "duplicates"),
    [
        (0.1, [0, 2], [3], [1]),
        (0.2, [0, 2], [1, 3], []),
        (1 / 3, [0, 2], [1, 3], []),
        (0.5, [0, MISSED], [1, 2, 3], []),
        (0.61, [MISSED, MISSED], [0, 1, 2, 3], []),
    ],
)
def test_the_smallest_overlap_decides_what_is_found(least, found_by, fps, duplicates):
    rules = overlap_rules(LESIONS, CANDIDATES, NONE, least)
    outcome = match(["a", "b"], LESIONS[0], CANDIDATES[0], NO_LESIONS, rules)
    assert outcome.lesion_row.tolist() == found_by
    assert outcome.fp_row.tolist() == fps
    assert outcome.repeated_row.tolist() == duplicates


def test_a_candidate_far_from_the_centre_of_a_flat_box_hits_it():
    # 8 mm off the centre of a lesion of 6 mm diameter, in a box of 20 mm: by the centre a miss.
    lesion = boxed(as_lesions([("a", 0, 0, 0, 6)]), (20, 4, 4))
    found = boxed(as_candidates([("a", 8, 0, 0, 0.5)]), (4, 4, 4))
    rules = overlap_rules(lesion, found, NONE, 0.1)
    assert match(["a"], lesion[0], found[0], NO_LESIONS, rules).found.all()
    assert not match(["a"], lesion[0], found[0]).found.any()


def test_excluded_findings_are_hit_by_their_box_or_else_near_their_centre():
    candidates = boxed(
        as_candidates([("a", 0, 0, 0, 0.9), ("a", 56, 0, 0, 0.8), ("a", 54, 0, 0, 0.7)]),
        (4, 4, 4), (4, 4, 4), (4, 4, 4),
    )  # fmt: skip
    excluded = boxed(
        as_lesions([("a", 1, 0, 0, 4), ("a", 50, 0, 0, -1)]), (4, 4, 4), (np.nan, -1, -1)
    )
    rules = overlap_rules(NONE, candidates, excluded, 0.1)
    outcome = match(["a"], NO_LESIONS, candidates[0], excluded[0], rules)
    assert outcome.excluded_row.tolist() == [0, 2]  # 54 is 4 mm from 50, 56 is 6 mm
    assert outcome.fp_row.tolist() == [1]


@pytest.mark.parametrize("seed", range(20))
def test_boxes_agree_with_monais_matching(seed):
    # MONAI pairs every prediction with one box at most.  Far apart lesions with one candidate or
    # none each are where its rule and ours mean the same.
    rng = np.random.default_rng(seed)
    n = 12
    center = 100.0 * np.arange(n)[:, None] + rng.uniform(-5, 5, (n, 3))
    size = rng.uniform(4, 12, (n, 3))
    found_mm = center + rng.uniform(-4, 4, (n, 3))
    found_size = rng.uniform(4, 12, (n, 3))
    score = rng.permutation(n) / n
    lesions = Lesions(["a"] * n, center, size.mean(axis=1))
    candidates = Candidates(["a"] * n, found_mm, score)
    rules = overlap_rules((lesions, size), (candidates, found_size), NONE, 0.1)
    ours = match(["a"], lesions, candidates, NO_LESIONS, rules)

    def corners(mm, edge):
        return np.hstack([mm - edge / 2, mm + edge / 2])

    truth, predicted = corners(center, size), corners(found_mm, found_size)
    (theirs,) = matching_batch(
        monai_iou, [0.1], [predicted], [np.zeros(n, int)], [score], [truth], [np.zeros(n, int)]
    )
    by_score = np.argsort(-score)
    hits = by_score[theirs[0]["dtMatches"][0] > 0]
    assert sorted(hits.tolist()) == np.flatnonzero(ours.lesion_row != MISSED).tolist()
    np.testing.assert_allclose(
        box_iou(center, size, found_mm, found_size),
        np.diag(monai_iou(truth, predicted)),
        atol=1e-4,  # MONAI computes in float32
    )


def test_masks_decide_by_their_parts():
    lesions, candidates = LESIONS[0], CANDIDATES[0]
    rules = mask_rules(np.array([1, 2]), np.array([2, 0, 1, 1]), NO_LESIONS, candidates)
    outcome = match(["a", "b"], lesions, candidates, NO_LESIONS, rules)
    assert outcome.lesion_row.tolist() == [2, 0]  # the one of scan b is not a hit
    assert outcome.fp_row.tolist() == [1, 3]


def test_two_masks_decide_by_the_overlap_of_their_parts():
    lesions, candidates = LESIONS[0], CANDIDATES[0]
    parts = (np.array([1, 2]), np.array([1, 2, 2, 0]))
    iou = {"a": np.array([[0, 0, 0], [0, 0.5, 0.1], [0, 0, 0.3]])}
    rules = mask_iou_rules(parts, (lesions, candidates, NO_LESIONS), iou, 0.3)
    outcome = match(["a", "b"], lesions, candidates, NO_LESIONS, rules)
    assert outcome.lesion_row.tolist() == [0, 1]
    assert (outcome.repeated_row.tolist(), outcome.fp_row.tolist()) == ([2], [3])


@pytest.mark.parametrize("least", [0, -0.1, 1.01, np.nan])
def test_an_overlap_that_is_not_between_0_and_1_is_refused(least):
    with pytest.raises(FrocInputError, match="must be above 0 and at most 1"):
        overlap_rules(LESIONS, CANDIDATES, NONE, least)


@pytest.mark.parametrize("edge", [0, -1, np.nan, np.inf])
def test_a_box_without_volume_is_refused(edge):
    odd = boxed(as_candidates([("a", 0, 0, 0, 0.5)]), (4, edge, 4))
    with pytest.raises(FrocInputError, match="1 box of candidates without a positive size"):
        overlap_rules(LESIONS, odd, NONE, 0.1)


def test_boxes_of_another_number_of_rows_are_refused():
    with pytest.raises(FrocInputError, match=r"shape \(1, 3\), expected \(2, 3\)"):
        overlap_rules((LESIONS[0], np.ones((1, 3))), CANDIDATES, NONE, 0.1)
