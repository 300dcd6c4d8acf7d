"""What hits what: against the slow reference, at every edge, and whatever the order of rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det import froc as froc_module
from nodule_det.analysis import analyse
from nodule_det.errors import FrocInputError
from nodule_det.froc import Candidates, froc_curve, match
from tests import reference_froc as reference
from tests.analysis.froc_jobs import as_candidates, as_lesions, job, match_rows

OURS = {
    ("nan", "drop"): {"drop_nan": True},
    ("unknown", "ignore"): {"drop_unknown_candidates": True},
}
"""Settings of the reference that the package has; the others are other definitions."""


@pytest.mark.parametrize("start", range(0, 2000, 250))
def test_2000_random_jobs_agree_with_the_reference(start):
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
    "NaN score": "1 of 1 scores are NaN; the first is candidate row 0 of case a",
    "unknown case": "belong to 1 cases that are not in the list of scans, such as 'zz';",
    "no cases": "there is no case to evaluate",
    "same case twice": "case a is listed twice",
    "lesion with zero diameter": "lesion row 0 of case a has diameter_mm=0.0",
    "NaN coordinate": "1 of 1 candidates have a position that is not finite; the first is row 0",
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
    with pytest.raises(FrocInputError, match="1 lesions belong to 1 cases"):
        match(["a"], as_lesions([("b", 0, 0, 0, 5)]), as_candidates([]))
    with pytest.raises(FrocInputError, match="1 excluded findings belong"):
        match(["a"], as_lesions([]), as_candidates([]), as_lesions([("b", 0, 0, 0, 5)]))


def test_infinite_scores_are_scores():
    rows = [("a", 0, 0, 0, -math.inf), ("a", 50, 0, 0, math.inf)]
    found = match_rows(["a"], [("a", 0, 0, 0, 6)], rows, [])
    assert found.found.tolist() == [True]
    assert found.fp_score.tolist() == [math.inf]
