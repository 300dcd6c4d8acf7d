"""Two detectors on the same cases: known differences, no difference, and what does not compare."""

import dataclasses
import json

import numpy as np
import pytest

from nodule_det.analysis import common_scans, compare, merge
from nodule_det.analysis.comparison import _side_by_side, cases_needed
from nodule_det.errors import FrocInputError
from nodule_det.froc import froc_curve, pauc
from tests.analysis.froc_jobs import as_candidates, job, matched


def detector(seed: int, strength: float, n_cases: int = 60, scale: float = 1.0):
    """Return a detector whose lesions score ``strength`` above its false positives on average."""
    rng = np.random.default_rng(seed)
    lesions = [(k, scale * (s + strength)) for k, s in enumerate(rng.normal(size=n_cases))]
    fps = [(k, scale * s) for k in range(n_cases) for s in rng.normal(size=8)]
    return matched(lesions, fps, n_cases)


def test_a_detector_does_not_differ_from_itself():
    same = compare(detector(0, 1), detector(0, 1), bootstrap=100, permutations=100)
    for figure in (same.pauc, same.cpm):
        assert figure.difference == figure.se == 0
        assert figure.p_value == 1
        assert figure.cases_needed is figure.cases_needed_interval is None
        # Sixty scans in which two detectors agree leave a difference possible: t / (60 + 2).
        assert figure.interval == (pytest.approx(-2.001 / 62, abs=1e-4), -figure.interval[0])


def test_one_case_shows_a_difference_and_how_little_that_is():
    found, missed = (matched([(0, score)], []) for score in (0.5, None))
    result = compare(found, missed, bootstrap=20, permutations=20)
    assert result.pauc.difference == -1
    assert result.pauc.se == pytest.approx(1 / 3)  # one lesion and two pseudo-lesions
    assert result.pauc.interval == (-1, 1)
    assert result.pauc.cases_needed is not None
    assert result.pauc.cases_needed_interval is None
    assert result.few_scans == "a 95% CI needs at least 5 scans, and there are 1"


def test_all_scans_of_a_patient_are_swapped_and_resampled_together():
    # Two scans of each patient that answer alike are no more evidence than one.
    one, two = detector(0, 0.8, 30), detector(1, 1.4, 30)
    twice = [
        merge([m, dataclasses.replace(m, cases=np.char.add(m.cases, "x"))]) for m in (one, two)
    ]
    patients = {case: case.removesuffix("x") for case in twice[0].cases.tolist()}
    single = compare(one, two, seed=1)
    by_patient = compare(*twice, seed=1, patients=patients)
    assert by_patient.n_patients == 30
    assert single.n_patients is None
    assert by_patient.pauc.se == pytest.approx(single.pauc.se, rel=1e-6)
    assert by_patient.pauc.p_value == single.pauc.p_value
    assert compare(*twice, seed=1).pauc.se < 0.8 * single.pauc.se


def test_the_scans_needed_have_an_interval_that_holds_what_a_large_pilot_says():
    large = compare(detector(0, 1.0, 2000), detector(1, 1.4, 2000), bootstrap=300, permutations=1)
    held = 0
    for k in range(40):
        drawn = detector(500 + k, 1.0, 105), detector(600 + k, 1.4, 105)
        pilot = compare(*drawn, bootstrap=300, permutations=1)
        low, high = pilot.pauc.cases_needed_interval
        assert low < pilot.pauc.cases_needed < high
        held += low <= large.pauc.cases_needed <= high
    assert held >= 34, "38 of 40 are expected, 33 or fewer once in 100 runs"


def test_a_clear_difference_is_seen():
    found = compare(detector(0, 0.5), detector(1, 2.5), permutations=999)
    assert found.pauc.difference == found.pauc.second - found.pauc.first > 0.1
    assert found.pauc.interval[0] > 0
    assert found.pauc.p_value == 1 / 1000
    assert found.cpm.p_value == 1 / 1000


def test_the_test_rarely_sees_what_is_not_there():
    p = [
        compare(detector(2 * k, 1), detector(2 * k + 1, 1), bootstrap=2, permutations=99)
        for k in range(60)
    ]
    below = sum(c.pauc.p_value <= 0.05 for c in p)
    assert below <= 8, "3 of 60 are expected at the 5% level; 9 or more once in 200 tests"


def test_scores_of_another_scale_change_nothing():
    one, two = detector(0, 1), detector(1, 1.5)
    logits = detector(1, 1.5, scale=100.0)
    assert compare(one, two, bootstrap=50).pauc == compare(one, logits, bootstrap=50).pauc


@pytest.mark.parametrize("seed", [s for s in range(30) if job(s)[2].n_lesions])
def test_putting_both_on_one_scale_keeps_each_curve(seed):
    found = job(seed)[2]
    both = _side_by_side(found, found)
    first = np.repeat([[1.0, 0.0]], found.n_cases, axis=1)
    for weights in (first, 1 - first):
        area = both.figures(weights, 5.0, np.array([1.0])).pauc[0]
        assert area == pytest.approx(pauc(froc_curve(found)), abs=1e-12)


def test_swapping_every_case_turns_the_difference_round():
    one, two = detector(0, 1, 20), detector(1, 2, 20)
    both = _side_by_side(one, two)
    second = np.repeat([[0.0, 1.0]], 20, axis=1)
    assert both.figures(second, 5.0, np.array([1.0])).pauc[0] == pytest.approx(
        pauc(froc_curve(two))
    )


def test_four_times_the_cases_show_half_the_difference():
    assert cases_needed(0.02, 100, 0.015) == pytest.approx(4 * cases_needed(0.02, 100, 0.03), abs=4)
    # (1.96 + 0.84)^2 (0.02 / 0.03)^2 100
    assert cases_needed(0.02, 100, 0.03) == 349


def test_what_is_promised_is_what_that_many_cases_give():
    """Simulate: at the number of cases needed, about 80% of comparisons exclude 0."""
    pilot = compare(detector(0, 1.0, 400), detector(1, 1.4, 400), bootstrap=200, permutations=2)
    areas = [
        [pauc(froc_curve(detector(100 * (1 + k) + j, strength, 400))) for k in range(40)]
        for j, strength in enumerate((1.0, 1.4))
    ]
    true = np.mean(areas[1]) - np.mean(areas[0])
    n = cases_needed(pilot.pauc.se, 400, true)
    seen = 0
    for k in range(60):
        drawn = detector(300 + k, 1.0, n), detector(400 + k, 1.4, n)
        low, high = compare(*drawn, bootstrap=100, permutations=2).pauc.interval
        seen += not low <= 0 <= high
    assert 0.62 <= seen / 60 <= 0.95


def test_the_record_is_plain_json():
    record = compare(detector(0, 1), detector(1, 1), bootstrap=10, permutations=10).as_dict()
    assert json.loads(json.dumps(record))["pauc"]["interval"][0] < record["pauc"]["difference"]


def listed(cases, per_scan=6):
    return as_candidates([(case, k, 0, 0, k) for case in cases for k in range(per_scan)])


SCANS = np.array([f"s{k}" for k in range(10)])


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        (listed(SCANS), listed(SCANS), SCANS),
        (listed(SCANS), listed(SCANS[:5]), SCANS[:5]),
        (listed(SCANS[:6]), listed(SCANS[4:]), SCANS[4:6]),
        (listed(SCANS), listed(SCANS[:9]), SCANS),
        (listed(SCANS), listed(SCANS[:5], per_scan=1), SCANS),
        (listed(SCANS), as_candidates([]), SCANS),
    ],
    ids=["both on all", "half", "different", "one is silent", "few candidates", "none at all"],
)
def test_scans_on_which_a_detector_was_not_run_are_told_from_silent_ones(first, second, common):
    assert SCANS[common_scans(SCANS, first, second)].tolist() == common.tolist()


def test_other_cases_lesions_and_differences_are_refused():
    one, two = detector(0, 1), detector(1, 1, 61)
    with pytest.raises(FrocInputError, match="on 60 and 61 cases that are not the same"):
        compare(one, two)
    fewer = dataclasses.replace(one, lesion_case=one.lesion_case[::-1])
    with pytest.raises(FrocInputError, match=r"other lesions \(60 and 60\)"):
        compare(one, fewer)
    with pytest.raises(FrocInputError, match="detect=0 must be a positive difference"):
        compare(one, one, detect=0)
    with pytest.raises(FrocInputError, match="bootstrap=1 is too few resamples; use 1000"):
        compare(one, one, bootstrap=1)
    with pytest.raises(FrocInputError, match="permutations=0 must be at least 1; use 1000"):
        compare(one, one, permutations=0)
    empty = matched([], [], 3)
    with pytest.raises(FrocInputError, match="there is no lesion in 3 scans"):
        compare(empty, empty)
