from dataclasses import replace

import pytest

from nodule_det.hpo.model.learning_curve import best_until, extrapolate
from nodule_det.hpo.study.trial import Observation, Trial, TrialState


def curve(*values, every=5):
    return tuple(Observation(every * i, v, 0.02) for i, v in enumerate(values, 1))


def complete(*values, every=5):
    validations = curve(*values, every=every)
    return Trial(
        number=1, params={}, state=TrialState.COMPLETE, value=max(values), curve=validations
    )


def test_a_training_is_extrapolated_by_the_gains_of_completed_ones():
    trials = [complete(0.15, 0.3, 0.4), complete(0.2, 0.4, 0.5), complete(0.125, 0.25, 0.3)]
    # From the second validation to the end they gained 4/3, 5/4 and 6/5: 5/4 in the middle.
    # All doubled before that, so their rises do not differ.
    end = extrapolate(curve(0.1, 0.2), trials)
    assert end.value == pytest.approx(0.25)
    assert end.se == pytest.approx(1.25 * 0.02)
    assert end.spread > 0


def test_a_curve_that_is_still_rising_is_extrapolated_further():
    steep, flat = (0.1, 0.2, 0.4, 0.6), (0.3, 0.35, 0.4, 0.42)
    trials = [
        complete(*(level * v for v in values))
        for level in (0.8, 1, 1.2)
        for values in (steep, flat)
    ]
    # After three of four validations the steep ones gain 3/2 and the flat ones 1.05.  Six trials
    # and two without slope: the line reaches 6/8 of the way from the middle to each.
    middle, reach = (1.5 * 1.05) ** 0.5, (1.5 / 1.05) ** (0.5 * 6 / 8)
    assert extrapolate(curve(0.2, 0.4, 0.8), trials).value == pytest.approx(0.8 * middle * reach)
    assert extrapolate(curve(0.6, 0.7, 0.8), trials).value == pytest.approx(0.8 * middle / reach)


def test_gains_that_differ_increase_the_error():
    alike = [complete(0.2, 0.4 + 0.001 * i) for i in range(5)]
    differ = [complete(0.2, 0.3 + 0.1 * i) for i in range(5)]
    assert extrapolate(curve(0.2), differ).spread > 2 * extrapolate(curve(0.2), alike).spread


def test_three_completed_trials_must_have_reached_the_epoch():
    trials = [complete(0.2, 0.4), complete(0.2, 0.3), complete(0.2)]
    assert extrapolate(curve(0.1), trials) is not None
    assert extrapolate(curve(0.1, 0.2), trials) is None


def test_a_trial_with_value_zero_at_the_epoch_shows_no_gain():
    trials = [complete(0.2, 0.4), complete(0.2, 0.3), complete(0.0, 0.5)]
    assert extrapolate(curve(0.1), trials) is None
    assert extrapolate(curve(0.0), [*trials, complete(0.1, 0.2)]).value == 0.0


def test_values_of_the_other_sign_show_no_gain():
    trials = [replace(complete(0.2, 0.4), value=-0.3)] * 5
    assert extrapolate(curve(0.1), trials) is None
    assert extrapolate(curve(-0.1), [complete(0.2, 0.4)] * 5) is None
    assert extrapolate(curve(-0.1), [replace(complete(-0.4, -0.2), value=0.0)] * 5) is None


def test_a_loss_is_extrapolated_as_its_reciprocal():
    runs = [(0.1, 0.2, 0.4, 0.6), (0.3, 0.35, 0.4, 0.42), (0.2, 0.3, 0.5, 0.55), (0.1, 0.3, 0.4)]
    *full, part = runs
    end = extrapolate(curve(*part), [complete(*run) for run in full])
    losses = [[-1 / v for v in run] for run in runs]  # scores: the largest is the smallest loss
    low = extrapolate(curve(*losses[-1]), [complete(*loss) for loss in losses[:-1]])
    assert end.value > 0.4
    assert low.value == pytest.approx(-1 / end.value)
    assert low.spread / -low.value == pytest.approx(end.spread / end.value)
    assert low.se == pytest.approx(0.02 * 0.4 / end.value)


def test_curves_over_hundreds_of_decades_stay_finite():
    tiny = [complete(1e-320, 1e100), complete(5e-324, 1e100), complete(1e-310, 1e99)]
    assert 0 < extrapolate(curve(0.1), tiny).value < 1e150
    falling = [complete(-1e100, -1e-320), complete(-1e100, -5e-324), complete(-1e99, -1e-310)]
    assert -0.1 <= extrapolate(curve(-0.1), falling).value <= 0


def test_the_slope_does_not_depend_on_the_offset_of_the_values():
    def shifted(*values):
        return [1e6 + v for v in values]

    steep, flat = shifted(0.1, 0.2, 0.4, 0.6), shifted(0.3, 0.35, 0.4, 0.42)
    trials = [complete(*steep), complete(*flat)] * 3
    rising = extrapolate(curve(*shifted(0.2, 0.3, 0.5)), trials)
    level = extrapolate(curve(*shifted(0.4, 0.45, 0.5)), trials)
    assert rising.value - level.value > 0.03


def test_a_training_has_no_value_at_an_epoch_it_has_not_reached():
    assert best_until(curve(0.5), 15) is None
    assert best_until(curve(0.5, 0.4, 0.3), 15).value == 0.5


@pytest.mark.parametrize("every", [3, 10, 15])
def test_trials_validated_at_other_epochs_inform_nothing(every):
    others, alike = [complete(0.2, 0.4, 0.5, every=every)] * 4, [complete(0.1, 0.4)] * 2
    assert extrapolate(curve(0.1), others) is None
    assert extrapolate(curve(0.1), [*others, *alike]) is None
    alone = extrapolate(curve(0.1), [*alike, complete(0.1, 0.3)])
    assert extrapolate(curve(0.1), [*others, *alike, complete(0.1, 0.3)]) == alone


def test_trials_validated_less_often_inform_at_common_epochs():
    others = [complete(0.2, 0.4, 0.5, every=10)] * 4
    end = extrapolate(curve(0.1, 0.15, 0.2, 0.3), others)
    assert end.value == pytest.approx(0.3 * 5 / 4)


def test_a_training_without_validations_has_no_predicted_value():
    assert extrapolate((), [complete(0.2, 0.4)] * 5) is None
