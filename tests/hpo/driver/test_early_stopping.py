import pytest

from nodule_det.config.hpo import StoppingConfig
from nodule_det.hpo.driver.early_stopping import should_stop
from nodule_det.hpo.study.trial import Observation, Trial, TrialState

RULE = StoppingConfig(on=True, first_epoch=5, sure=2.0)


def trial(*values, se=0.0, epochs=5, **fields):
    """A trial validated every 5 epochs."""
    curve = tuple(Observation(epochs * i, v, se) for i, v in enumerate(values, 1))
    return Trial(number=1, params={}, curve=curve, **fields)


def whole(*values):
    return trial(*values, state=TrialState.COMPLETE, value=max(values))


OTHERS = [whole(0.1 * n, 0.2 * n) for n in range(1, 6)]  # each doubles; the best reached 1.0


@pytest.mark.parametrize(("value", "stops"), [(0.3, True), (0.49, True), (0.51, False)])
def test_a_training_that_will_end_below_the_best_is_stopped(value, stops):
    assert should_stop(trial(value), OTHERS, RULE) is stops


def test_a_lag_within_its_error_does_not_stop_a_training():
    # 0.45 will double to 0.9, and its error of 0.04 to 0.08: two of them reach beyond 1.0.
    assert not should_stop(trial(0.45, se=0.04), OTHERS, RULE)
    assert should_stop(trial(0.45, se=0.04), OTHERS, StoppingConfig(on=True, sure=1.0))


def test_a_training_that_rises_late_is_given_time():
    late = [whole(0.1, 0.2 + 0.01 * n, 0.9) for n in range(4)]
    assert not should_stop(trial(0.1, 0.21), late, RULE)
    assert should_stop(trial(0.1, 0.15), late, RULE)


def test_nothing_is_stopped_before_its_first_epoch_nor_without_a_curve():
    early = StoppingConfig(on=True, first_epoch=6)
    assert not should_stop(trial(0.1), OTHERS, early)
    assert not should_stop(trial(), OTHERS, RULE)
    assert not should_stop(trial(0.1), OTHERS, StoppingConfig(on=False))


def test_nothing_is_stopped_before_three_are_complete():
    running = [trial(0.9) for _ in range(7)]
    assert not should_stop(trial(0.1), [*running, *OTHERS[:2]], RULE)
    assert should_stop(trial(0.1), [*running, *OTHERS[:3]], RULE)
