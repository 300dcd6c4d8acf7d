"""What hits what, and the curve: by hand, at every edge, and against the slow reference."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodule_det import froc as froc_module
from nodule_det.analysis import analyse
from nodule_det.analysis.steps import pauc_step, sensitivity_step_at
from nodule_det.errors import FrocInputError
from nodule_det.froc import (
    CPM_RATES,
    Candidates,
    Lesions,
    Matched,
    cpm,
    froc_curve,
    match,
    pauc,
    sensitivity_at,
    threshold_at,
)
from tests import reference_froc as reference
from tests.analysis.froc_jobs import as_candidates, as_lesions, job, match_rows, matched

OURS = {
    ("nan", "drop"): {"drop_nan": True},
    ("unknown", "ignore"): {"drop_unknown_candidates": True},
}
"""Settings of the reference that the package has; the others are other definitions."""


@pytest.mark.parametrize("start", range(0, 2000, 250))
def test_the_matches_of_2000_random_jobs_agree_with_the_reference(start):
    for seed in range(start, start + 250):
        _, slow, fast = job(seed)
        assert fast.cases[fast.lesion_case].tolist() == slow.lesion_case
        score = [
            float(s) if f else None for s, f in zip(fast.lesion_score, fast.found, strict=True)
        ]
        assert score == slow.lesion_score
        assert sorted(fast.fp_row) == sorted(slow.fp_index)
        assert len(fast.excluded_row) == slow.n_ignored_excluded


# The oracle also knows definitions that are not ours (repeated hits as false positives, <= radius).
OUR_EDGES = [edge for edge in reference.EDGE if edge[5].items() <= OURS.keys()]


@pytest.mark.parametrize("edge", OUR_EDGES, ids=lambda edge: edge[0])
def test_every_edge_has_its_known_answer(edge):
    _, cases, lesions, excluded, detections, settings, linear, step = edge
    ours = {k: v for item in settings.items() for k, v in OURS[item].items()}
    froc = analyse(match_rows(cases, lesions, detections, excluded, **ours), bootstrap=20)
    assert froc.pauc == pytest.approx(linear, abs=1e-12) if linear is not None else not froc.pauc
    assert froc.pauc_step == pytest.approx(step, abs=1e-12) if step is not None else not froc.pauc


WORDS = {
    "NaN score": "1 of 1 score is NaN; the first is candidate row 0 of case a",
    "unknown case": "belongs to 1 case that is not in the list of scans, such as 'zz';",
    "no cases": "there is no case to evaluate",
    "same case twice": "case a is listed twice",
    "lesion with zero diameter": "lesion row 0 of case a has diameter_mm=0.0",
    "NaN coordinate": "1 of 1 position is not finite in candidates; the first is row 0",
}


@pytest.mark.parametrize("edge", reference.EDGE_RAISES, ids=lambda edge: edge[0])
def test_bad_input_is_refused_in_these_words(edge):
    name, cases, lesions, excluded, detections = edge
    with pytest.raises(FrocInputError, match=WORDS[name]):
        match_rows(cases, lesions, detections, excluded)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(FrocInputError, match=r"expected \(1, 3\) and \(1,\)"):
        Candidates(np.array(["a"]), np.zeros((2, 3)), np.zeros(1))


def test_a_repeated_hit_is_neither_found_nor_false():
    found = match_rows(["a"], [("a", 0, 0, 0, 6)], [("a", 0, 0, 0, 0.5), ("a", 1, 0, 0, 0.9)], [])
    assert found.lesion_row.tolist() == [1]
    assert found.repeated_row.tolist() == [0]
    assert len(found.fp_row) == 0


def test_of_equal_hits_the_first_row_finds_the_lesion():
    found = match_rows(["a"], [("a", 0, 0, 0, 6)], [("a", 1, 0, 0, 0.5), ("a", 0, 0, 0, 0.5)], [])
    assert found.lesion_row.tolist() == [0]


def test_chunks_of_pairs_do_not_show(monkeypatch):
    whole = [job(seed)[2] for seed in range(40)]
    monkeypatch.setattr(froc_module, "PAIRS_AT_ONCE", 7)
    for seed, expected in enumerate(whole):
        made = job(seed)[0]
        again = match_rows(made["cases"], made["lesions"], made["detections"], made["excluded"])
        np.testing.assert_array_equal(again.lesion_row, expected.lesion_row)
        np.testing.assert_array_equal(again.fp_row, expected.fp_row)


@given(st.integers(0, 300), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(seed, random):
    made, _, fast = job(seed)
    if not fast.n_lesions:
        return
    lists = [list(made[name]) for name in ("cases", "lesions", "detections", "excluded")]
    for rows in lists:
        random.shuffle(rows)
    curve, again = froc_curve(fast), froc_curve(match_rows(*lists))
    np.testing.assert_array_equal(again.threshold, curve.threshold)
    np.testing.assert_array_equal(again.sensitivity, curve.sensitivity)
    np.testing.assert_array_equal(again.fp_per_scan, curve.fp_per_scan)


def test_findings_of_unknown_cases_are_refused_too():
    with pytest.raises(FrocInputError, match="1 lesion belongs to 1 case"):
        match(["a"], as_lesions([("b", 0, 0, 0, 5)]), as_candidates([]))
    with pytest.raises(FrocInputError, match="1 excluded finding belongs"):
        match(["a"], as_lesions([]), as_candidates([]), as_lesions([("b", 0, 0, 0, 5)]))


def test_infinite_scores_are_scores():
    rows = [("a", 0, 0, 0, -math.inf), ("a", 50, 0, 0, math.inf)]
    found = match_rows(["a"], [("a", 0, 0, 0, 6)], rows, [])
    assert found.found.tolist() == [True]
    assert found.fp_score.tolist() == [math.inf]


SCORE_TYPES = {
    "uint8": lambda s: np.array(s, np.uint8),
    "uint16": lambda s: np.array(s, np.uint16),
    "uint64": lambda s: np.array(s, np.uint64),
    "int8": lambda s: np.array(s, np.int8),
    "float16": lambda s: np.array(s, np.float16),
    "list": list,
    "tensor": torch.tensor,
    "tensor on its way": lambda s: torch.tensor(s, dtype=torch.float32, requires_grad=True),
    "Series": lambda s: pd.Series(s, index=range(5, 5 + len(s))),
    "strings": lambda s: [str(v) for v in s],
}


@pytest.mark.parametrize("kind", SCORE_TYPES)
def test_scores_of_any_type_give_the_same_curve(kind):
    # With unsigned scores, -score wraps: 0 would rank above 9.
    scores = [9, 0, 5, 7]
    points = [[0, 0, 0], [1, 0, 0], [50, 0, 0], [90, 0, 0]]
    lesions = Lesions(["a", "a"], [[0, 0, 0], [50, 0, 0]], [6, 6])
    found = match(["a"], lesions, Candidates(["a"] * 4, points, SCORE_TYPES[kind](scores)))
    assert found.lesion_row.tolist() == [0, 2]
    curve = froc_curve(found)
    assert curve.threshold.tolist() == [np.inf, 9, 7, 5]
    assert curve.sensitivity.tolist() == [0, 1 / 2, 1 / 2, 1]


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float32])
def test_an_outcome_made_by_hand_is_converted_too(dtype):
    found = matched([(0, 1)], [(0, 0)])
    made = dataclasses.replace(
        found,
        lesion_score=found.lesion_score.astype(dtype),
        fp_score=found.fp_score.astype(dtype),
    )
    assert isinstance(made, Matched)
    assert made.lesion_score.dtype == made.fp_score.dtype == np.float64
    assert pauc(froc_curve(made)) == 1
    assert analyse(made, bootstrap=20).pauc == 1


def test_boolean_scores_are_a_tie_of_two_levels():
    candidates = Candidates(["a", "a"], [[0, 0, 0], [90, 0, 0]], [True, True])
    found = match(["a"], Lesions(["a"], [[0, 0, 0]], [6]), candidates)
    assert froc_curve(found).threshold.tolist() == [np.inf, 1]


def test_ids_that_are_numbers_match_ids_that_are_text():
    lesions = Lesions(pd.Series([7]), pd.DataFrame({"x": [0], "y": [0], "z": [0]}), [6.0])
    candidates = Candidates(torch.tensor([7]), np.zeros((1, 3), np.int16), [1])
    assert match(["7"], lesions, candidates).found.tolist() == [True]
    assert match([7], lesions, candidates).found.tolist() == [True]


@pytest.mark.parametrize(
    "columns",
    [
        (["a"], [[0, 0, 0]], ["x"]),
        (["a"], [["x", 0, 0]], [1]),
        (["a"], [[0, 0]], [1]),
        (["a"], [0, 0, 0], [1]),
        ([None], [[0, 0, 0]], [1]),
        ("a", [[0, 0, 0]], [1]),
        (["a"], [[0, 0, 0]], 1),
        (["a"], None, [1]),
        (["a"], [[0, 0, 0]], [1j]),
        (["a", "b"], [[0, 0, 0]], [1]),
    ],
)
def test_columns_that_are_no_columns_are_refused(columns):
    for kind in (Candidates, Lesions):
        with pytest.raises(FrocInputError):
            kind(*columns)


@pytest.mark.parametrize("table", [pd.DataFrame({"seriesuid": ["a"]}), [("a", 0, 0, 0, 1)], None])
def test_a_table_of_another_kind_is_refused(table):
    lesions, candidates = as_lesions([]), as_candidates([])
    for arguments in ((table, candidates), (lesions, table), (lesions, candidates, table)):
        with pytest.raises(FrocInputError, match=r"evaluate\(\) takes DataFrames"):
            match(["a"], *arguments)


@pytest.mark.parametrize("diameter", [np.nan, 0.0, -1.0, -5.0])
def test_an_excluded_finding_without_a_diameter_reaches_5_mm(diameter):
    rows = [("a", 4.9, 0, 0, 0.9), ("a", 5.0, 0, 0, 0.8)]
    found = match_rows(["a"], [], rows, [("a", 0, 0, 0, diameter)])
    assert found.excluded_row.tolist() == [0]
    assert found.fp_row.tolist() == [1]


def test_an_infinite_excluded_finding_is_refused():
    with pytest.raises(FrocInputError, match="excluded row 0 of case a has diameter_mm=inf"):
        match_rows(["a"], [], [], [("a", 0, 0, 0, np.inf)])


def test_findings_and_candidates_of_other_cases_are_dropped_apart():
    three = as_lesions([("b", 0, 0, 0, 5)]), as_candidates([("b", 0, 0, 0, 1)]), as_lesions([])
    with pytest.raises(FrocInputError, match=r"1 candidate .* \(drop_unknown_candidates=true\)"):
        match(["a"], *three, drop_unknown_findings=True)
    with pytest.raises(FrocInputError, match=r"1 lesion .* \(drop_unknown_findings=true\)"):
        match(["a"], *three, drop_unknown_candidates=True)
    both = match(["a"], *three, drop_unknown_findings=True, drop_unknown_candidates=True)
    assert (both.n_lesions, both.n_unknown) == (0, 1)


SCORES = st.sampled_from([-3.0, 0.0, 0.5, 0.9])  # few values, so that ties are common
RATES = (0, 1 / 16, 3 / 16, *CPM_RATES)


@pytest.mark.parametrize("start", range(0, 2000, 250))
def test_the_curves_of_2000_random_jobs_agree_with_the_reference(start):
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
    with pytest.raises(FrocInputError, match="there is no lesion in 1 scan"):
        froc_curve(matched([], [(0, 0.5)]))
    curve = froc_curve(matched([(0, 0.5)], []))
    for upper in (0.0, np.nan, np.inf):
        with pytest.raises(FrocInputError, match=f"upper={upper} must be a positive number"):
            pauc(curve, upper)


@pytest.mark.parametrize("rate", [-1, -1e-9, np.nan, [1, -2], [np.nan], -np.inf])
@pytest.mark.parametrize("read", [sensitivity_at, sensitivity_step_at, threshold_at])
def test_a_rate_below_zero_is_refused(read, rate):
    curve = froc_curve(matched([(0, 0.5)], [(0, 0.9)]))
    with pytest.raises(
        FrocInputError, match=r"fp_per_scan=(-|nan).* must be a number of at least 0"
    ):
        read(curve, rate)


@pytest.mark.parametrize("read", [sensitivity_at, sensitivity_step_at, threshold_at])
def test_a_rate_that_is_not_a_number_is_refused(read):
    with pytest.raises(FrocInputError, match="false positives per scan cannot be read as numbers"):
        read(froc_curve(matched([(0, 0.5)], [])), "many")
