from dataclasses import replace

import pytest

from nodule_det.config.hpo import StoppingConfig
from nodule_det.hpo.stopping import best_until, highest_rung, should_stop
from nodule_det.hpo.trial import Observation, Trial, TrialState

RULE = StoppingConfig(on=True, first_epoch=5, factor=3)


def trial(number, *values, se=None):
    """A trial validated every 5 epochs."""
    curve = tuple(Observation(5 * i, v, se) for i, v in enumerate(values, 1))
    return Trial(number=number, params={}, curve=curve)


def whole(number, *values):
    return replace(trial(number, *values), state=TrialState.COMPLETE)


OTHERS = [whole(n, 0.1 * n) for n in range(1, 6)]  # 0.1 ... 0.5 at epoch 5


@pytest.mark.parametrize(("value", "stops"), [(0.35, True), (0.45, False), (0.6, False)])
def test_the_best_third_goes_on(value, stops):
    # Six values, so the best two go on: with 0.45 these are 0.5 and 0.45.
    assert should_stop(trial(6, value), OTHERS, RULE) is stops


def test_a_lag_within_the_standard_error_is_no_reason():
    assert should_stop(trial(6, 0.35), OTHERS, RULE)
    assert not should_stop(trial(6, 0.35, se=0.06), OTHERS, RULE)


def test_trainings_are_compared_at_equal_epochs():
    ahead = whole(7, 0.1, 0.2, 0.9)  # 0.9 came at epoch 15; at epoch 5 it had 0.1
    assert not should_stop(trial(8, 0.2), [ahead, whole(9, 0.15), whole(10, 0.15)], RULE)


def test_the_first_ones_have_nobody_to_fall_behind():
    assert not should_stop(trial(1, 0.0), [whole(2, 0.9)], RULE)
    assert not should_stop(trial(1), OTHERS, RULE)
    assert not should_stop(trial(6, 0.1), OTHERS, StoppingConfig(on=False))


def test_nothing_is_stopped_before_three_are_complete():
    running = [trial(n, 0.9) for n in range(2, 9)]
    two = [whole(9, 0.9), whole(10, 0.9)]
    assert not should_stop(trial(1, 0.1), running + two, RULE)
    assert should_stop(trial(1, 0.1), [*running, *two, whole(11, 0.9)], RULE)


@pytest.mark.parametrize(("epoch", "rung"), [(4, None), (5, 5), (14, 5), (15, 15), (135, 135)])
def test_rungs_lie_a_factor_apart(epoch, rung):
    assert highest_rung(epoch, RULE) == rung


def test_a_training_that_has_not_come_that_far_has_no_value_there():
    assert best_until(trial(1, 0.5).curve, 15) is None
    assert best_until(trial(1, 0.5, 0.4, 0.3).curve, 15).value == 0.5
