"""Pulls by hand, against weights changed a little, and against the bootstrap of a difference."""

import numpy as np
import pytest

from nodule_det.analysis.bootstrap import Events, Units, draw_weights
from nodule_det.analysis.influence import derivative, influence
from nodule_det.errors import FrocInputError
from nodule_det.froc import froc_curve, pauc
from tests.analysis.froc_jobs import job, matched

STEP = 1e-6


@pytest.mark.parametrize("seed", [s for s in range(30) if job(s)[2].n_lesions])
@pytest.mark.parametrize("upper", [1.3, 5.0])
def test_the_derivative_is_that_of_weights_changed_a_little(seed, upper):
    found = job(seed)[2]
    events, n = Events(found), found.n_cases
    up, down = (
        events.figures(1 + sign * STEP * np.eye(n), upper, np.empty(0)).pauc for sign in (1, -1)
    )
    slopes = derivative(found, upper)
    assert slopes == pytest.approx((up - down) / (2 * STEP), abs=1e-6)
    assert slopes.sum() == pytest.approx(0, abs=1e-12)


def test_without_false_positives_pulls_are_those_of_a_mean():
    # Three patients with a lesion each, found, found and missed: 1/3, 1/3 and -2/3 from the mean.
    found = matched([(0, 0.9), (1, 0.8), (2, None)], [], n_cases=3)
    pulls = influence(found, {"c0": "a", "c1": "b", "c2": "c"})
    expected = np.array([-2, 1, 1]) / 3 / 3 * np.sqrt(3 / 2)
    assert sorted(pulls.values()) == pytest.approx(expected, rel=1e-3)
    # The variance of a mean of 1, 1, 0 is 1/3 / 3.
    assert sum(p * p for p in pulls.values()) == pytest.approx(1 / 9, rel=1e-3)


def test_the_scans_of_a_patient_count_together():
    found = matched([(0, 0.9), (1, 0.8), (2, None)], [], n_cases=3)
    pulls = influence(found, {"c0": "a", "c1": "a", "c2": "c"})
    assert sorted(pulls.values()) == pytest.approx(np.array([-2, 2]) / 9 * np.sqrt(2), rel=1e-3)
    with pytest.raises(FrocInputError, match="1 of 3 scans has no patient"):
        influence(found, {"c0": "a", "c1": "a"})


def test_a_key_is_a_part_of_a_hash():
    found = matched([(0, 0.9), (1, None)], [], n_cases=2)
    pulls = influence(found, {"c0": "Miller", "c1": "Smith"})
    assert all(len(key) == 3 and int(key, 16) >= 0 for key in pulls)


def test_one_patient_or_no_lesion_has_no_pull():
    assert influence(matched([(0, 0.9)], []), {"c0": "a"}) == {}
    assert influence(matched([], [(0, 0.9)], n_cases=2), {"c0": "a", "c1": "b"}) == {}


def detectors(rng, n):
    """Two detectors that find about the same lesions, and their false positives."""
    ease, own = rng.normal(size=n), rng.normal(size=(2, n))
    results = []
    for noise in own:
        score = ease + 0.5 * noise
        lesions = [(i, float(s) if s > -0.5 else None) for i, s in enumerate(score)]
        fps = [
            (int(i), float(s))
            for i, s in zip(rng.integers(n, size=3 * n), rng.normal(-0.7, 1, 3 * n), strict=True)
        ]
        results.append(matched(lesions, fps, n_cases=n))
    return results


def test_the_error_of_a_difference_is_that_of_a_paired_bootstrap():
    n, rng = 200, np.random.default_rng(0)
    pair = detectors(rng, n)
    weights = draw_weights(Units(np.arange(n), n), 4000, rng)
    one, other = (Events(found).figures(weights, 5.0, np.empty(0)).pauc for found in pair)
    a, b = (derivative(found) for found in pair)
    assert np.linalg.norm(a) == pytest.approx(np.std(one), rel=0.05)
    assert np.linalg.norm(a - b) == pytest.approx(np.std(one - other), rel=0.05)
    assert np.linalg.norm(a - b) < 0.75 * np.hypot(np.std(one), np.std(other))
    assert pauc(froc_curve(pair[0])) == pytest.approx(one.mean(), abs=0.01)
