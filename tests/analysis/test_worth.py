"""What each lesion adds: by hand, and that the mean over the lesions is the figure itself."""

import numpy as np
import pytest

from nodule_det.analysis.worth import cost, worth
from nodule_det.froc import CPM_RATES, froc_curve, pauc, sensitivity_at
from tests.analysis.froc_jobs import job, matched

RATES = np.array(CPM_RATES)


@pytest.mark.parametrize("seed", [s for s in range(200) if job(s)[2].n_lesions])
def test_the_mean_over_lesions_is_the_figure(seed):
    found = job(seed)[2]
    curve = froc_curve(found)
    for upper in (1.0, 5.0):
        area, sensitivity = worth(cost(found), upper, RATES)
        assert area.mean() == pytest.approx(pauc(curve, upper), abs=1e-12)
        np.testing.assert_allclose(sensitivity.mean(axis=0), sensitivity_at(curve, RATES))


def test_a_lesion_behind_one_false_positive_per_scan_by_hand():
    area, sensitivity = worth(cost(matched([(0, 0.5)], [(0, 0.9)])), 5.0, RATES)
    assert area.tolist() == [4 / 5]
    assert sensitivity.tolist() == [[0, 0, 0, 1, 1, 1, 1]]


def test_a_tie_is_worth_the_mean_over_its_false_positives():
    area, sensitivity = worth(cost(matched([(0, 0.5)], [(0, 0.5)] * 2)), 4.0, RATES)
    # From 0 to 2 false positives the worth falls from 1 to 1/2.
    assert area.tolist() == [3 / 4]
    assert sensitivity.tolist() == [[1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 1, 1]]


def test_a_missed_lesion_is_worth_nothing():
    area, sensitivity = worth(cost(matched([(0, None)], [])), 5.0, RATES)
    assert area.tolist() == [0]
    assert not sensitivity.any()
