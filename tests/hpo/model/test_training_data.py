import pytest

from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.trial import Observation, Reason, Trial, TrialState

SPACE = parse_space({"parameters": {"x": {"kind": "float", "low": 0.0, "high": 1.0}}})
NUMBERS = iter(range(1, 10_000))


def trial(x, **fields):
    return Trial(number=next(NUMBERS), params={"x": x}, **fields)


def complete(x, value, se=None, curve=()):
    return trial(x, state=TrialState.COMPLETE, value=value, value_se=se, curve=curve)


def shared(x, value, influence):
    """A completed trial that reported the influence of the validation cases."""
    return trial(x, state=TrialState.COMPLETE, value=value, value_se=0.05, influence=influence)


def failed(x, reason):
    return trial(x, state=TrialState.FAILED, reason=reason)


def learnt(trials, failures=Failures.model):
    return training_data(Features(SPACE), trials, failures)


def rising(*values):
    return tuple(Observation(5 * i, v, 0.02) for i, v in enumerate(values, 1))


def test_each_kind_of_trial_informs_in_its_own_way():
    data = learnt(
        [
            complete(0.1, 0.4, 0.02),
            complete(0.2, 0.6, None),
            failed(0.3, Reason.OUT_OF_MEMORY),
            failed(0.4, Reason.LOST),
            trial(0.5),
            trial(0.6, state=TrialState.CANCELLED, reason=Reason.USER),
        ]
    )
    assert list(data.values) == [0.4, 0.6]
    assert list(data.se) == [0.02, 0.02]
    assert data.outcomes[:, 0] == pytest.approx([0.1, 0.2, 0.3])
    assert list(data.succeeded) == [True, True, False]
    assert data.pending[:, 0] == pytest.approx([0.5])


def test_with_failures_zero_a_failure_has_the_value_zero():
    trials = [complete(0.1, 0.4), failed(0.3, Reason.OUT_OF_MEMORY), failed(0.4, Reason.LOST)]
    data = learnt(trials, Failures.zero)
    assert list(data.values) == [0.4, 0.0]
    assert data.succeeded.all()


def test_a_diverged_training_has_the_worst_value_seen():
    data = learnt([complete(0.1, 0.4), complete(0.2, 0.3), failed(0.3, Reason.DIVERGED)])
    assert list(data.values) == [0.4, 0.3, 0.3]
    assert data.succeeded.all()


def test_an_extrapolation_from_nearly_zero_does_not_set_the_scale_of_all_values():
    slow = [complete(0.1 * i, 0.1 * i, curve=rising(1e-6, 0.1 * i)) for i in (1, 2, 3, 4)]
    fast = trial(0.5, curve=rising(0.3))
    data = training_data(Features(SPACE), [*slow, fast], Failures.model, running=True)
    # The others gained factors of 1e5 and more: 0.3 would become 75,000.
    assert data.values[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert data.values[4] == pytest.approx(0.4 + (0.4 - 0.25))


def test_a_stopped_training_informs_nothing_before_three_others_are_complete():
    stopped = trial(
        0.5, state=TrialState.CANCELLED, reason=Reason.EARLY_STOPPED, curve=rising(0.1, 0.2)
    )
    assert len(learnt([complete(0.1, 0.4, 0.02, rising(0.3, 0.4)), stopped]).values) == 1


def test_no_trial_gives_empty_arrays():
    assert learnt([]).features.shape == (0, 1)


def test_validations_of_a_running_training_inform_and_it_stays_pending():
    curves = [(0.15, 0.3, 0.4), (0.2, 0.4, 0.5), (0.125, 0.25, 0.3)]
    done = [complete(0.1 * i, c[-1], 0.02, rising(*c)) for i, c in enumerate(curves)]
    trials = [*done, trial(0.7, curve=rising(0.1, 0.2)), trial(0.9)]
    assert len(learnt(trials).values) == 3
    data = training_data(Features(SPACE), trials, Failures.model, running=True)
    assert data.values[3] == pytest.approx(0.25)  # 5/4 of 0.2, as the stopped one above
    assert data.pending[:, 0] == pytest.approx([0.7, 0.9])


def test_running_trainings_validated_at_other_epochs_inform_nothing():
    done = [complete(0.1 * i, 0.4, 0.02, rising(0.2, 0.3, 0.4)) for i in range(4)]
    odd = trial(0.7, curve=(Observation(3, 0.1), Observation(7, 0.2)))
    data = training_data(Features(SPACE), [*done, odd], Failures.model, running=True)
    assert list(data.values) == [0.4] * 4
    assert data.pending[:, 0] == pytest.approx([0.7])


def test_a_low_outlier_is_raised_to_the_fence_and_does_not_set_the_value_of_diverged_trials():
    done = [complete(0.1 * i, value) for i, value in enumerate([0.2, 0.4, 0.3, 0.5, -1e9])]
    data = learnt([*done, failed(0.9, Reason.DIVERGED)])
    # Quartiles 0.2 and 0.4: the fence lies at 0.2 - 1.5 * 0.2.
    assert data.values == pytest.approx([0.2, 0.4, 0.3, 0.5, -0.1, -0.1])


def test_errors_are_correlated_as_far_as_trials_share_their_cases():
    data = learnt(
        [
            shared(0.1, 0.4, {"a": 0.03, "b": 0.04}),
            shared(0.2, 0.5, {"b": 0.04, "a": 0.01}),
            shared(0.3, 0.6, {"c": 0.05}),
            complete(0.4, 0.3, 0.02),
        ]
    )
    covariance = data.influence @ data.influence.T
    assert covariance[0] == pytest.approx([0.03**2 + 0.04**2, 0.0003 + 0.04**2, 0, 0])
    assert covariance[2] == pytest.approx([0, 0, 0.05**2, 0])
    assert data.se == pytest.approx([0, 0, 0, 0.02])


def test_a_value_that_was_not_measured_shares_as_much_error_as_the_others_do_on_average():
    # Two errors of .05 with a correlation of .6: the angle between (3, 4) and (5, 0).
    done = [shared(0.1, 0.4, {"a": 0.03, "b": 0.04}), shared(0.2, 0.3, {"a": 0.05})]
    data = learnt([*done, failed(0.9, Reason.DIVERGED)])
    covariance = data.influence @ data.influence.T
    assert covariance[0, 1] == pytest.approx(0.6 * 0.05**2)
    assert covariance[2, :2].mean() == pytest.approx(0.6 * 0.05**2)
    assert covariance[2, 2] + data.se[2] ** 2 == pytest.approx(0.05**2)


def test_the_validations_of_a_running_training_share_its_error():
    curves = [(0.15, 0.3, 0.4), (0.2, 0.4, 0.5), (0.125, 0.25, 0.3)]
    done = [
        trial(
            0.1 * i, state=TrialState.COMPLETE, value=c[-1], curve=rising(*c), influence={"a": 0.02}
        )
        for i, c in enumerate(curves)
    ]
    trials = [*done, trial(0.7, curve=rising(0.1, 0.2))]
    data = training_data(Features(SPACE), trials, Failures.model, running=True)
    assert data.influence[:, 0] == pytest.approx([0.02, 0.02, 0.02, 5 / 4 * 0.02])
    assert data.se[:3] == pytest.approx([0, 0, 0])
    # What is left is the spread of the gains 4/3, 5/4 and 6/5 around 5/4.
    assert 0 < data.se[3] < 0.05


def test_one_trial_says_nothing_about_the_correlation_of_others():
    data = learnt([shared(0.1, 0.4, {"a": 0.05}), failed(0.9, Reason.DIVERGED)])
    assert list(data.influence[1]) == [0]
    assert data.se == pytest.approx([0, 0.05])


def test_an_infeasible_training_informs_only_the_feasibility():
    infeasible = trial(0.3, state=TrialState.COMPLETE, reason=Reason.INFEASIBLE)
    data = learnt([complete(0.1, 0.4), infeasible, complete(0.2, 0.5)])
    assert data.features[:, 0].tolist() == [0.1, 0.2]
    assert data.outcomes[:, 0].tolist() == [0.1, 0.2, 0.3]
    assert data.succeeded.tolist() == [True, True, False]
