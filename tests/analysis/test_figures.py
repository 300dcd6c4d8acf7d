"""All figures together: what ``froc.json`` says, and that it agrees with the parts."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nodule_det.analysis import Interval, analyse, merge, resample
from nodule_det.errors import FrocInputError
from nodule_det.froc import CPM_RATES, cpm, froc_curve, pauc
from tests.analysis.froc_jobs import job, matched

DEFINED = [seed for seed in range(12) if job(seed)[2].n_lesions]


@pytest.mark.parametrize("interval", Interval)
@pytest.mark.parametrize("seed", DEFINED)
def test_figures_lie_in_their_intervals_and_intervals_in_0_and_1(seed, interval):
    froc = analyse(job(seed)[2], bootstrap=200, interval=interval)
    figures = [(froc.cpm, froc.cpm_interval), (froc.pauc, froc.pauc_interval)]
    figures += zip(froc.sensitivity, froc.sensitivity_interval, strict=True)
    for value, (low, high) in figures:
        assert 0 <= low <= high <= 1
        if interval in (Interval.gamma, Interval.logit):
            assert low <= value <= high
    assert len(froc.band) == len(froc.band_rates)


def test_the_figures_are_those_of_the_curve():
    found = job(6)[2]
    froc, curve = analyse(found, bootstrap=20), froc_curve(found)
    assert (froc.pauc, froc.cpm) == (pauc(curve), cpm(curve))
    assert froc.curve_sensitivity == tuple(curve.sensitivity)
    assert froc.n_found + froc.n_false_positives <= froc.n_candidates + froc.n_lesions


def test_the_curve_is_kept_up_to_the_first_point_past_8_false_positives():
    found = matched([(0, 0.5)], [(0, score) for score in np.linspace(0, 1, 200)])
    assert analyse(found, bootstrap=2).fp_per_scan == tuple(range(10))
    assert analyse(found, bootstrap=2, upper=20).fp_per_scan[-1] == 21


@pytest.mark.parametrize("interval", [Interval.logit, "percentile", "bca"])
def test_the_standard_error_is_that_of_the_resamples(interval):
    found = job(6)[2]
    resampled = resample(found, 300, np.random.default_rng(5))
    froc = analyse(found, bootstrap=300, seed=5, interval=interval)
    assert froc.pauc_se == pytest.approx(np.std(resampled.pauc, ddof=1))


def test_every_lesion_found_is_not_taken_for_certainty():
    # 30 scans with a lesion each: the mid-p Clopper-Pearson interval of 30 of 30 is [0.905, 1].
    froc = analyse(matched([(k, 0.9) for k in range(30)], [], 30))
    low, high = froc.pauc_interval
    assert low == pytest.approx(0.05 ** (1 / 30), abs=0.005)
    assert high == 1
    assert 0 < froc.pauc_se < 0.06


def test_scans_of_one_patient_are_not_independent():
    rng = np.random.default_rng(0)
    lesions = [(k, s) for k, s in enumerate(rng.normal(size=60)) for _ in range(2)]
    fps = [(k, s) for k, s in zip(rng.integers(60, size=300), rng.normal(size=300), strict=True)]
    found = matched(lesions, fps, 60)
    patients = {case: f"p{k // 3}" for k, case in enumerate(found.cases.tolist())}
    alike = {case: case for case in found.cases.tolist()}
    by_scan, by_patient = analyse(found), analyse(found, patients=patients)
    assert (by_scan.n_patients, by_patient.n_patients) == (None, 20)
    assert by_patient.pauc == by_scan.pauc
    assert by_patient.pauc_interval != by_scan.pauc_interval
    assert analyse(found, patients=alike).pauc_interval == by_scan.pauc_interval


def test_copies_of_a_scan_under_one_patient_are_no_evidence():
    rng = np.random.default_rng(0)
    fps = [(k, s) for k in range(20) for s in rng.normal(size=8)]
    one = matched([(k, s) for k, s in enumerate(np.linspace(-1, 2, 20))], fps, 20)
    copies = merge([replace(one, cases=np.char.add(one.cases, f"-{j}")) for j in range(3)])
    patients = {case: case[:-2] for case in copies.cases.tolist()}
    low, high = analyse(one).pauc_interval
    as_patients = analyse(copies, patients=patients).pauc_interval
    as_scans = analyse(copies).pauc_interval
    assert as_patients[1] - as_patients[0] == pytest.approx(high - low, rel=0.05)
    assert as_scans[1] - as_scans[0] < 0.7 * (high - low)


@pytest.mark.parametrize(("n", "few"), [(4, True), (5, False)])
def test_too_few_scans_are_named(n, few):
    froc = analyse(matched([(0, 0.5)], [], n), bootstrap=20)
    assert froc.few_scans == ("a 95% CI needs at least 5 scans, and there are 4" if few else None)


def test_figures_as_steps_are_those_of_a_threshold():
    # A lesion ties with a false positive at 0.5: the threshold 0.5 costs 1 and finds both lesions.
    froc = analyse(matched([(0, 0.9), (0, 0.5)], [(0, 0.5)]), bootstrap=2)
    assert froc.sensitivity[:4] == (1 / 2 + 1 / 16, 1 / 2 + 1 / 8, 3 / 4, 1)
    assert froc.sensitivity_step == (1 / 2, 1 / 2, 1 / 2, 1, 1, 1, 1)
    assert froc.cpm_step == pytest.approx((3 / 2 + 4) / 7)
    assert froc.threshold == (0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5)


def test_the_same_seed_gives_the_same_intervals_and_another_others():
    found = job(6)[2]
    same = [analyse(found, bootstrap=100, seed=1) for _ in range(2)]
    assert same[0] == same[1]
    assert analyse(found, bootstrap=100, seed=2).pauc_interval != same[0].pauc_interval


def test_the_record_is_plain_json_even_with_infinite_scores():
    found = matched([(0, np.inf), (0, None)], [(0, -np.inf), (0, 0.5)])
    record = json.loads(json.dumps(analyse(found, bootstrap=20).as_dict(), allow_nan=False))
    assert record["curve_threshold"] == [None, None, 0.5, None]
    assert record["rates"] == list(CPM_RATES)
    assert record["interval"] == "gamma"


def test_without_lesions_every_figure_is_none_with_its_reason():
    froc = analyse(matched([], [(0, 0.5)]), bootstrap=20)
    assert froc.pauc is froc.cpm is froc.pauc_interval is None
    assert froc.reason == "there is no lesion in 1 scan, so sensitivity is not defined"
    json.dumps(froc.as_dict(), allow_nan=False)


@pytest.mark.parametrize("interval", Interval)
@pytest.mark.parametrize("score", [0.5, None])
@pytest.mark.parametrize("n_cases", [1, 2])
def test_one_lesion_gives_figures_that_admit_how_little_it_is(interval, score, n_cases):
    froc = analyse(matched([(0, score)], [], n_cases), bootstrap=20, interval=interval)
    assert froc.pauc == (score is not None)
    if interval is Interval.gamma:
        assert 0.1 < froc.pauc_se < 0.5
        assert froc.pauc_interval[1] - froc.pauc_interval[0] > 0.7
    else:  # half a lesion from the end is 1/4 or 3/4; a logit error of 1 there is 1/4 x 3/4
        assert froc.pauc_se == pytest.approx(3 / 16)
    json.dumps(froc.as_dict(), allow_nan=False)


@pytest.mark.parametrize("interval", [kind for kind in Interval if kind is not Interval.gamma])
def test_resamples_without_any_lesion_leave_every_interval_open(interval):
    # Of 50 scans one has a lesion; both resamples of this seed miss it.
    froc = analyse(matched([(0, 0.5)], [], 50), bootstrap=2, seed=2, interval=interval)
    assert froc.n_undefined == 2
    # logit: half a lesion from 1 is 3/4, whose logit 1.099 -+ 1.96 is -0.861: 0.297
    low = 0.297 if interval is Interval.logit else 0.0
    assert froc.pauc_interval == (pytest.approx(low, abs=1e-3), 1.0)


def test_an_area_that_ends_nowhere_is_refused_even_without_lesions():
    with pytest.raises(FrocInputError, match="upper=-1 must be a positive number"):
        analyse(matched([], []), upper=-1)


def test_too_few_resamples_are_refused():
    with pytest.raises(FrocInputError, match="bootstrap=1 is too few resamples; use 1000"):
        analyse(job(6)[2], bootstrap=1)
