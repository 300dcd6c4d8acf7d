from dataclasses import replace

import pytest

from nodule_det.hpo.model.learning_curve import best_until, extrapolate
from nodule_det.hpo.study.trial import Observation, Trial, TrialState


def curve(*values):
    """Validated every 5 epochs."""
    return tuple(Observation(5 * i, v, 0.02) for i, v in enumerate(values, 1))


def complete(*values):
    return Trial(
        number=1, params={}, state=TrialState.COMPLETE, value=max(values), curve=curve(*values)
    )


def test_a_training_is_carried_on_as_the_others_went():
    trials = [complete(0.15, 0.3, 0.4), complete(0.2, 0.4, 0.5), complete(0.125, 0.25, 0.3)]
    # From the second validation to the end they gained 4/3, 5/4 and 6/5: 5/4 in the middle.
    # All doubled before: their rises tell nothing.
    value, se = extrapolate(curve(0.1, 0.2), trials)
    assert value == pytest.approx(0.25)
    assert se > 1.25 * 0.02


def test_what_still_rises_is_carried_further():
    steep, flat = (0.1, 0.2, 0.4, 0.6), (0.3, 0.35, 0.4, 0.42)
    trials = [
        complete(*(level * v for v in values))
        for level in (0.8, 1, 1.2)
        for values in (steep, flat)
    ]
    # After three of four validations the steep ones gain 3/2 and the flat ones 1.05.  Six trials
    # and two without slope: the line reaches 6/8 of the way from the middle to each.
    middle, reach = (1.5 * 1.05) ** 0.5, (1.5 / 1.05) ** (0.5 * 6 / 8)
    assert extrapolate(curve(0.2, 0.4, 0.8), trials)[0] == pytest.approx(0.8 * middle * reach)
    assert extrapolate(curve(0.6, 0.7, 0.8), trials)[0] == pytest.approx(0.8 * middle / reach)


def test_gains_that_differ_make_the_error_larger():
    alike = [complete(0.2, 0.4 + 0.001 * i) for i in range(5)]
    differ = [complete(0.2, 0.3 + 0.1 * i) for i in range(5)]
    assert extrapolate(curve(0.2), differ)[1] > 2 * extrapolate(curve(0.2), alike)[1]


def test_three_complete_trainings_must_have_come_that_far():
    trials = [complete(0.2, 0.4), complete(0.2, 0.3), complete(0.2)]
    assert extrapolate(curve(0.1), trials) is not None
    assert extrapolate(curve(0.1, 0.2), trials) is None


def test_a_training_that_stood_at_zero_shows_no_gain():
    trials = [complete(0.2, 0.4), complete(0.2, 0.3), complete(0.0, 0.5)]
    assert extrapolate(curve(0.1), trials) is None
    assert extrapolate(curve(0.0), [*trials, complete(0.1, 0.2)])[0] == 0.0


def test_values_below_zero_of_a_training_of_ones_own_show_no_gain():
    trials = [replace(complete(0.2, 0.4), value=-0.3)] * 5
    assert extrapolate(curve(0.1), trials) is None


def test_a_training_that_has_not_come_that_far_has_no_value_there():
    assert best_until(curve(0.5), 15) is None
    assert best_until(curve(0.5, 0.4, 0.3), 15).value == 0.5
