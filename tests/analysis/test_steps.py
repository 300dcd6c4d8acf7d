"""Step-wise figures: what a threshold can reach, worked by hand.

tests/test_froc.py compares them with the slow reference on 2,000 random jobs.
"""

import pytest

from nodule_det.analysis.steps import pauc_step, sensitivity_step_at
from nodule_det.errors import FrocInputError
from nodule_det.froc import froc_curve, pauc, sensitivity_at
from tests.analysis.froc_jobs import matched


def test_steps_are_the_sensitivity_of_the_threshold():
    curve = froc_curve(matched([(0, 0.9), (0, 0.5)], [(0, 0.5)]))
    assert sensitivity_step_at(curve, [0, 0.99, 1, 9]).tolist() == [1 / 2, 1 / 2, 1, 1]
    assert sensitivity_at(curve, 0.5).tolist() == [3 / 4]


def test_the_area_under_the_steps_leaves_out_the_triangle_of_a_tie():
    # Half the lesions before any false positive, the rest tied with the only one: at 1 FP/scan.
    curve = froc_curve(matched([(0, 0.9), (0, 0.5)], [(0, 0.5)]))
    assert pauc(curve, 2) == pytest.approx((0.75 * 1 + 1 * 1) / 2)
    assert pauc_step(curve, 2) == pytest.approx((0.5 * 1 + 1 * 1) / 2)


def test_an_area_that_ends_nowhere_is_refused():
    with pytest.raises(FrocInputError, match="upper=-1 must be a positive number"):
        pauc_step(froc_curve(matched([(0, 0.5)], [])), -1)
