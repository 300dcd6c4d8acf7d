"""The curve and its figures: by hand, against the slow reference, and what may not change them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.errors import FrocInputError
from nodule_det.froc import (
    CPM_RATES,
    cpm,
    froc_curve,
    pauc,
    pauc_step,
    sensitivity_at,
    threshold_at,
)
from tests import reference_froc as reference
from tests.analysis.froc_jobs import job, match_rows, matched

SCORES = st.sampled_from([-3.0, 0.0, 0.5, 0.9])  # few values, so that ties are common
RATES = (0, 1 / 16, 3 / 16, *CPM_RATES)


@pytest.mark.parametrize("start", range(0, 2000, 250))
def test_2000_random_jobs_agree_with_the_reference(start):
    for seed in range(start, start + 250):
        _, slow, fast = job(seed)
        points = reference.curve(slow)
        if points is None:
            assert not fast.n_lesions
            continue
        curve = froc_curve(fast)
        columns = (curve.fp_per_scan, curve.sensitivity, curve.threshold)
        for column, expected in zip(columns, zip(*points, strict=True), strict=True):
            np.testing.assert_allclose(column, [float(e) for e in expected], rtol=0, atol=1e-12)
        for upper in (5, 1):
            linear, step = (float(reference.pauc(points, upper, m)) for m in ("linear", "step"))
            assert pauc(curve, upper) == pytest.approx(linear, abs=1e-12)
            assert pauc_step(curve, upper) == pytest.approx(step, abs=1e-12)
        read = [float(reference.sens_linear(points, rate)) for rate in RATES]
        np.testing.assert_allclose(sensitivity_at(curve, RATES), read, rtol=0, atol=1e-12)
        assert cpm(curve) == pytest.approx(float(reference.cpm(points)), abs=1e-12)


LUNA16 = """a 0 0 0 0.9 | a 30 0 0 0.8 | a 60 0 0 0.7 | b 0 0 0 0.8 | b 5 0 0 0.6 | c 0 0 0 0.5"""


def test_a_submission_in_luna16s_format_worked_by_hand():
    # Four scans.  Lesions: a at 0 (10 mm), b at 0 (6 mm), c at 40 (6 mm, nobody sees it).
    # a 0 finds the first at 0.9, b 0 the second at 0.8; false are a 30 (0.8), b 5 (0.6: 5 mm away
    # from a lesion of radius 3), c 0 (0.5); a 60 (0.7) lies on an excluded finding of 10 mm.
    rows = [row.split() for row in LUNA16.split("|")]
    detections = [(case, *map(float, numbers)) for case, *numbers in rows]
    lesions = [("a", 0, 0, 0, 10), ("b", 0, 0, 0, 6), ("c", 40, 0, 0, 6)]
    curve = froc_curve(match_rows([*"abcd"], lesions, detections, [("a", 62, 0, 0, -1)]))
    np.testing.assert_array_equal(curve.threshold, [np.inf, 0.9, 0.8, 0.6, 0.5])
    np.testing.assert_array_equal(curve.fp_per_scan, [0, 0, 1 / 4, 2 / 4, 3 / 4])
    np.testing.assert_array_equal(curve.sensitivity, [0, 1 / 3, 2 / 3, 2 / 3, 2 / 3])
    # Up to 1/4 it rises from 1/3 to 2/3 and stays: area 1/4 * 1/2 + 19/4 * 2/3.
    assert pauc(curve) == pytest.approx((1 / 4 * 1 / 2 + 19 / 4 * 2 / 3) / 5)
    assert pauc_step(curve) == pytest.approx((1 / 4 * 1 / 3 + 19 / 4 * 2 / 3) / 5)
    # At 1/8 half way up, then six times 2/3.
    assert cpm(curve) == pytest.approx((1 / 2 + 6 * 2 / 3) / 7)
    np.testing.assert_array_equal(threshold_at(curve, [1 / 8, 1 / 4, 0.7, 8]), [0.9, 0.8, 0.6, 0.5])


def test_a_perfect_detector_scores_one():
    curve = froc_curve(matched([(0, 0.9), (0, 0.2)], []))
    assert pauc(curve) == pauc_step(curve) == cpm(curve) == 1


def test_a_threshold_that_no_score_satisfies_is_infinite():
    curve = froc_curve(matched([(0, 0.1)], [(0, 0.9)]))
    assert threshold_at(curve, 0.5).tolist() == [np.inf]


@given(st.lists(SCORES | st.none(), min_size=1), st.lists(SCORES), st.integers(1, 9))
def test_every_point_agrees_with_counting(lesions, fps, n_cases):
    curve = froc_curve(matched([(0, s) for s in lesions], [(0, s) for s in fps], n_cases))
    points = zip(curve.fp_per_scan, curve.sensitivity, curve.threshold, strict=True)
    for fp, sensitivity, t in points:
        assert fp == pytest.approx(sum(s >= t for s in fps) / n_cases)
        n_found = sum(s is not None and s >= t for s in lesions)
        assert sensitivity == pytest.approx(n_found / len(lesions))


@given(st.lists(SCORES | st.none(), min_size=1), st.lists(SCORES), st.integers(1, 50))
def test_appending_false_positives_of_the_lowest_score_changes_nothing(lesions, fps, n):
    found = [(0, s) for s in lesions]
    before = froc_curve(matched(found, [(0, s) for s in fps]))
    after = froc_curve(matched(found, [(0, s) for s in fps + [-99.0] * n]))
    assert pauc(after) == pytest.approx(pauc(before), abs=1e-12)
    assert pauc_step(after) == pytest.approx(pauc_step(before), abs=1e-12)
    assert cpm(after) == pytest.approx(cpm(before), abs=1e-12)


@given(st.lists(SCORES | st.none(), min_size=1), st.lists(SCORES))
def test_only_the_order_of_scores_counts(lesions, fps):
    curve = froc_curve(matched([(0, s) for s in lesions], [(0, s) for s in fps]))
    bent = matched(
        [(0, None if s is None else np.exp(s)) for s in lesions], [(0, np.exp(s)) for s in fps]
    )
    assert pauc(froc_curve(bent)) == pauc(curve)


def test_no_lesion_and_no_area_are_refused():
    with pytest.raises(FrocInputError, match="there is no lesion in 1 scans"):
        froc_curve(matched([], [(0, 0.5)]))
    curve = froc_curve(matched([(0, 0.5)], []))
    for upper in (0.0, np.nan, np.inf):
        with pytest.raises(FrocInputError, match=f"upper={upper} must be a positive number"):
            pauc(curve, upper)
