"""Calibrated scores, checked by hand or by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.ensemble.calibration import fit_calibration, thresholds
from nodule_det.errors import FrocInputError
from tests.analysis.froc_jobs import matched as outcome


def matched(found, false, n_scans):
    """Return the outcome of a detector from the scores of detected lesions and false positives."""
    return outcome([(0, s) for s in found], [(0, s) for s in false], n_scans)


def drawn(seed, n_lesions=60, n_fp=600, n_scans=30):
    """Candidates of which the share p is true among those that should have probability p."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 2.0, n_lesions + n_fp)
    is_true = rng.uniform(size=len(p)) < p
    raw = p**0.25  # overconfident
    return matched(raw[is_true].tolist(), raw[~is_true].tolist(), n_scans), is_true, raw


def test_calibrated_probabilities_match_the_fraction_of_true_positives():
    result, is_true, raw = drawn(0, 600, 6000)
    probability = fit_calibration(result).probability(raw)
    for low, high in [(0.02, 0.2), (0.2, 0.5), (0.5, 0.9)]:
        group = (probability >= low) & (probability < high)
        assert probability[group].mean() == pytest.approx(is_true[group].mean(), abs=0.06)
    assert np.abs(raw - is_true).mean() > 2 * np.abs(probability - is_true).mean()


@given(st.integers(0, 50), st.lists(st.floats(0.001, 0.999), min_size=2, unique=True))
def test_the_order_of_candidates_never_changes(seed, scores):
    calibration = fit_calibration(drawn(seed)[0])
    ordered = np.sort(np.round(scores, 6))
    assert (np.diff(calibration.probability(ordered)) >= 0).all()
    assert (np.diff(calibration.false_positives(ordered)) <= 0).all()


def test_false_positives_per_scan_are_counted():
    # four false positives in two scans: from .5 on there are two, one per scan
    calibration = fit_calibration(matched([0.9, 0.8], [0.7, 0.5, 0.2, 0.1], 2))
    np.testing.assert_allclose(calibration.false_positives([0.7, 0.5, 0.2, 0.1]), [0.5, 1, 1.5, 2])
    assert calibration.false_positives(0.01) == 2.0  # nothing is known below


def test_the_lowest_score_that_a_rate_needs_is_the_first_beyond_it():
    calibration = fit_calibration(matched([0.9, 0.8], [0.7, 0.5, 0.2, 0.1], 2))
    assert [calibration.lowest_score(rate) for rate in (0.4, 0.5, 1, 1.9)] == [0.7, 0.5, 0.2, 0.1]
    assert calibration.lowest_score(2) == 0  # nothing is known beyond


def test_thresholds_do_not_exceed_their_rates():
    # two scans; one false positive is 0.5 per scan
    at = thresholds(matched([0.9, 0.6], [0.7, 0.5], 2))
    assert at["0.5"] == 0.6
    assert at["1"] == 0.5
    assert at["0.125"] == 0.9


@pytest.mark.parametrize(
    ("found", "false", "words"),
    [
        ([], [0.5], "0 detected lesions and 1 false positive:"),
        ([0.5], [], "1 detected lesion and 0 false positives"),
        ([1.5], [0.5], "scores from 0.5 to 1.5 cannot be calibrated"),
        ([0.1, 0.1], [0.9, 0.9], "do not score higher than false positives"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(found, false, words):
    with pytest.raises(FrocInputError, match=words):
        fit_calibration(matched(found, false, 2))
