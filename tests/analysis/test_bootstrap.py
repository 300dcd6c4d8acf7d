"""Weights of cases against cases that are really copied, and against the slow reference."""

import numpy as np
import pytest

from nodule_det.analysis import bootstrap, resample
from nodule_det.analysis.bootstrap import (
    Events,
    draw_weights,
    gamma_weights,
    leave_one_out,
    units_of,
)
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, Matched, cpm, froc_curve, pauc
from tests import reference_froc as reference
from tests.analysis.froc_jobs import job, matched

RATES = np.array(CPM_RATES)


def drawn(found: Matched, picks) -> Matched:
    """Return the outcome over cases that were really copied."""
    lesions = [np.flatnonzero(found.lesion_case == case) for case in picks]
    fps = [np.flatnonzero(found.fp_case == case) for case in picks]
    copy_of = [np.repeat(np.arange(len(picks)), [len(rows) for rows in r]) for r in (lesions, fps)]
    of_lesion, of_fp = (np.concatenate([*rows, []]).astype(int) for rows in (lesions, fps))
    return Matched(
        cases=np.array([f"{k}" for k in range(len(picks))]),
        lesion_case=copy_of[0],
        lesion_row=found.lesion_row[of_lesion],
        lesion_score=found.lesion_score[of_lesion],
        fp_case=copy_of[1],
        fp_score=found.fp_score[of_fp],
        fp_row=found.fp_row[of_fp],
        excluded_row=np.empty(0, int),
        repeated_row=np.empty(0, int),
    )


@pytest.mark.parametrize("seed", range(60))
def test_weights_of_cases_equal_cases_that_are_copied(seed):
    found = job(seed)[2]
    weights = draw_weights(units_of(found.cases), 5, np.random.default_rng(seed))
    figures = Events(found).figures(weights, 5.0, RATES)
    at = 0
    for row in weights.astype(int):
        copied = drawn(found, np.repeat(np.arange(found.n_cases), row))
        if copied.n_lesions:
            curve = froc_curve(copied)
            assert figures.pauc[at] == pytest.approx(pauc(curve), abs=1e-12)
            assert figures.sensitivity[at].mean() == pytest.approx(cpm(curve), abs=1e-12)
            at += 1
    assert at == len(figures.pauc) == 5 - figures.n_undefined


@pytest.mark.parametrize("seed", range(20))
def test_weights_agree_with_the_reference(seed):
    made, slow, fast = job(seed)
    picks = np.random.default_rng(seed).integers(len(made["cases"]), size=len(made["cases"]))
    weights = np.bincount(picks, minlength=len(made["cases"]))[None].astype(float)
    figures = Events(fast).figures(weights, 5.0, RATES)
    points = reference.curve(reference.resample(slow, [made["cases"][i] for i in picks]))
    expected = [] if points is None else [float(reference.pauc(points))]
    np.testing.assert_allclose(figures.pauc, expected, rtol=0, atol=1e-12)


def test_leaving_one_out_agrees_with_the_reference():
    made, slow, fast = job(4)
    figures = Events(fast).figures(leave_one_out(units_of(fast.cases)), 5.0, RATES)
    expected = reference.jackknife(
        slow, made["cases"], lambda m: reference.pauc(reference.curve(m))
    )
    np.testing.assert_allclose(figures.pauc, [float(e) for e in expected], rtol=0, atol=1e-12)


def test_only_the_head_of_the_list_is_enough():
    rng = np.random.default_rng(0)
    found = matched(
        [(k, s) for k, s in enumerate(rng.normal(1, 1, 20))],
        [(k, s) for k, s in zip(rng.integers(20, size=4000), rng.normal(size=4000), strict=True)],
        n_cases=20,
    )
    events = Events(found)
    weights = draw_weights(units_of(found.cases), 30, rng)
    head = events._head(weights, 8.0)
    assert head < 1000
    figures = events.figures(weights, 5.0, RATES)
    for row, area in zip(weights.astype(int), figures.pauc, strict=True):
        copied = drawn(found, np.repeat(np.arange(20), row))
        assert area == pytest.approx(pauc(froc_curve(copied)), abs=1e-12)


def test_chunks_of_resamples_do_not_show(monkeypatch):
    found = job(4)[2]
    whole = resample(found, 40, np.random.default_rng(1))
    monkeypatch.setattr(bootstrap, "CELLS_AT_ONCE", 50)
    parts = resample(found, 40, np.random.default_rng(1))
    np.testing.assert_array_equal(parts.pauc, whole.pauc)
    np.testing.assert_array_equal(parts.sensitivity, whole.sensitivity)


def test_equal_infinite_scores_enter_together():
    found = matched([(0, np.inf)], [(0, np.inf), (0, np.inf)])
    assert Events(found).figures(np.ones((1, 1)), 5.0, RATES).pauc[0] == pauc(froc_curve(found))


def test_resamples_without_lesions_are_counted_and_left_out():
    found = matched([(0, 0.5)], [(1, 0.4)], n_cases=2)
    figures = Events(found).figures(np.array([[2.0, 0.0], [0.0, 2.0]]), 5.0, RATES)
    assert figures.pauc.tolist() == [1.0]
    assert figures.n_undefined == 1


def test_gamma_weights_have_mean_1_and_the_promised_variance():
    weights = gamma_weights(units_of(np.array(list("abcdefg"))), 40_000, np.random.default_rng(0))
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx((7 + 3) / (7 - 1), rel=0.02)
    assert weights.min() > 0


def test_sums_of_gamma_weights_are_exact_in_any_order():
    weights = gamma_weights(units_of(np.arange(800).astype(str)), 3, np.random.default_rng(1))
    assert weights.sum(axis=1).tolist() == weights[:, ::-1].cumsum(axis=1)[:, -1].tolist()


def test_scans_of_a_patient_get_one_weight_whatever_the_order_of_scans():
    cases, patient = (
        np.array(["s1", "s2", "s3", "s4"]),
        {"s1": "P", "s2": "Q", "s3": "P", "s4": "R"},
    )
    for draw in (draw_weights, gamma_weights):
        weights = draw(units_of(cases, patient), 50, np.random.default_rng(2))
        np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
        turned = draw(units_of(cases[::-1], patient), 50, np.random.default_rng(2))
        np.testing.assert_array_equal(turned[:, ::-1], weights)
    assert leave_one_out(units_of(cases, patient)).tolist() == [
        [0, 1, 0, 1],
        [1, 0, 1, 1],
        [1, 1, 1, 0],
    ]


@pytest.mark.parametrize("patient", [None, "", " ", float("nan")])
def test_a_scan_without_a_patient_is_refused(patient):
    patients = {"a": "P"} if patient is None else {"a": "P", "b": patient}
    with pytest.raises(FrocInputError, match="1 of 2 scans has no patient, such as 'b'"):
        units_of(np.array(["a", "b"]), patients)
