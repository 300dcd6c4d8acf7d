"""The next point is valid, new, depends only on the trials, and beats random search."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodule_det.config.hpo import AcquisitionConfig, Failures, Strategy
from nodule_det.hpo.space.parsing import parse_space, read_space
from nodule_det.hpo.space.space import point_key
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.trial import Observation, Reason, Trial, TrialState

NOMURA = read_space("nomura")
MODELS = [Strategy.nei, Strategy.ei_fantasies, Strategy.thompson, Strategy.ei]
SQUARE = parse_space(
    {
        "parameters": {
            "x": {"kind": "float", "low": 0.0, "high": 1.0},
            "y": {"kind": "float", "low": 0.0, "high": 1.0},
        }
    }
)


def hill(params):
    """A smooth hill of height 0.8 at (0.3, 0.7)."""
    return 0.8 - (params["x"] - 0.3) ** 2 - (params["y"] - 0.7) ** 2


def rng(number=0):
    return np.random.default_rng([7, number])


def complete(number, params, value, se=0.01):
    return Trial(number=number, params=params, state=TrialState.COMPLETE, value=value, value_se=se)


def tried(space, n, value, pending=0):
    """Return n complete trials at random points, then some that run."""
    points = [space.sample(rng(i)) for i in range(n + pending)]
    trials = [complete(i + 1, p, value(p)) for i, p in enumerate(points[:n])]
    return trials + [Trial(number=n + i + 1, params=p) for i, p in enumerate(points[n:])]


def some_value(params):
    return 0.1 + 0.01 * params["model.filters"] * (params["optim.lr"] > 1e-5)


def search(space, value, n, config, choose=propose, seed=0):
    trials = []
    for number in range(1, n + 1):
        params = choose(space, trials, config, np.random.default_rng([seed, number]))
        trials.append(complete(number, params, value(params)))
    return trials


@pytest.mark.parametrize("strategy", list(Strategy))
def test_equal_trials_and_generators_give_equal_valid_new_points(strategy):
    trials = tried(NOMURA, 12, some_value, pending=3)
    config = AcquisitionConfig(strategy=strategy)
    params = propose(NOMURA, trials, config, rng())
    assert params == propose(NOMURA, trials, config, rng())
    assert params == propose(NOMURA, trials[::-1], config, rng()) or strategy is Strategy.sobol
    assert NOMURA.check(params) == params
    assert point_key(params) not in {point_key(t.params) for t in trials}


@pytest.mark.parametrize("strategy", [s for s in Strategy if s is not Strategy.botorch])
@pytest.mark.parametrize("n", [3, 12])
def test_only_allowed_points_are_proposed_and_checking_changes_nothing_else(strategy, n):
    trials, config = tried(SQUARE, n, hill), AcquisitionConfig(strategy=strategy)

    def below(params):  # the top of the hill is not
        return params["y"] < 0.5

    free = propose(SQUARE, trials, config, rng())
    assert free == propose(SQUARE, trials, config, rng(), allowed=lambda params: True)
    assert below(propose(SQUARE, trials, config, rng(), allowed=below))
    assert propose(SQUARE, trials, config, rng(), allowed=lambda params: False)


def test_only_a_few_points_are_checked_for_being_allowed():
    trials, asked = tried(SQUARE, 12, hill), []
    propose(SQUARE, trials, AcquisitionConfig(), rng(), allowed=lambda p: not asked.append(p))
    assert len(asked) <= 4 * 8


def test_when_all_allowed_points_were_tried_the_best_of_them_is_repeated():
    space = parse_space({"parameters": {"n": {"kind": "int", "low": 0, "high": 9}}})
    trials = [complete(i + 1, {"n": i}, 0.1 * i) for i in range(7)]
    params = propose(space, trials, AcquisitionConfig(), rng(), allowed=lambda p: p["n"] < 7)
    assert params == {"n": 6}


def test_the_first_points_need_no_model_and_follow_the_prior():
    space = parse_space(
        {
            "parameters": {
                "lr": {
                    "kind": "float",
                    "low": 1.0e-6,
                    "high": 1.0,
                    "log": True,
                    "prior": {"center": 1.0e-3, "spread": 2},
                }
            }
        }
    )
    config = AcquisitionConfig(first=5)
    rates = [t.params["lr"] for t in search(space, lambda p: 0.5, 5, config)]
    assert all(1e-4 < lr < 1e-2 for lr in rates)


@pytest.mark.parametrize("strategy", MODELS)
def test_a_hill_is_climbed_faster_than_by_random_search(strategy):
    config = AcquisitionConfig(strategy=strategy, first=4)
    best, chance = (
        [max(t.value for t in search(SQUARE, hill, 12, config, choose, seed)) for seed in range(3)]
        for choose in (propose, propose_random)
    )
    assert np.mean(best) > np.mean(chance)
    assert np.mean(best) > 0.78


def test_a_hill_of_integers_and_categories_is_climbed_to_the_top():
    space = parse_space(
        {
            "parameters": {
                "n": {"kind": "int", "low": 0, "high": 40},
                "word": {"kind": "categorical", "values": ["a", "b", "c", "d"]},
            }
        }
    )

    def value(p):
        return 0.7 - 0.0005 * (p["n"] - 29) ** 2 - 0.1 * (p["word"] != "c")

    best = max(search(space, value, 25, AcquisitionConfig()), key=lambda t: t.value)
    assert best.params == {"n": 29, "word": "c"}


def test_workers_spread_out_with_noisy_improvement_and_cluster_without():
    trials = tried(SQUARE, 12, hill)

    def spread(strategy):
        config = AcquisitionConfig(strategy=strategy, draw_scales=False)  # which spreads as well
        running = list(trials)
        for number in range(5):
            params = propose(SQUARE, running, config, rng(number))
            running.append(Trial(number=len(running) + 1, params=params))
        points = np.array([SQUARE.to_unit(t.params) for t in running[len(trials) :]])
        return np.linalg.norm(points - points.mean(0), axis=1).mean()

    assert spread(Strategy.nei) > 2 * spread(Strategy.ei)


@pytest.mark.parametrize("failures", list(Failures))
def test_it_avoids_regions_where_trainings_fail(failures):
    trials = []
    for i in range(30):
        params = SQUARE.sample(rng(i))
        if params["x"] > 0.5:
            state = {"state": TrialState.FAILED, "reason": Reason.OUT_OF_MEMORY}
            trials.append(Trial(number=i + 1, params=params, **state))
        else:
            trials.append(complete(i + 1, params, 0.3 + 0.5 * params["x"]))
    config = AcquisitionConfig(failures=failures)
    points = [propose(SQUARE, trials, config, rng(i))["x"] for i in range(5)]
    assert max(points) < 0.7


def test_a_study_of_failures_alone_continues():
    failed = {"state": TrialState.FAILED, "reason": Reason.OUT_OF_MEMORY}
    trials = [Trial(number=i + 1, params=SQUARE.sample(rng(i)), **failed) for i in range(9)]
    for failures in Failures:
        params = propose(SQUARE, trials, AcquisitionConfig(failures=failures), rng())
        assert SQUARE.check(params) == params


@pytest.mark.parametrize("seed", range(3))
def test_failures_inform_from_the_first_one(seed):
    """A twelfth of the square is feasible: random search needs some 75 trials for six values."""
    trials = []
    while sum(t.value is not None for t in trials) < 6:
        n = len(trials) + 1
        params = propose(SQUARE, trials, AcquisitionConfig(), np.random.default_rng([seed, n]))
        if params["x"] < 0.29 and params["y"] < 0.29:
            trials.append(complete(n, params, 0.5))
        else:
            failed = {"state": TrialState.FAILED, "reason": Reason.OUT_OF_MEMORY}
            trials.append(Trial(number=n, params=params, **failed))
    assert len(trials) <= 30


def squeezed(params):
    return 0.9 + 0.01 * hill(params)


def exploding(params):
    """A loss that explodes over a third of the square."""
    return hill(params) if params["x"] < 0.66 else -(10.0 ** (8 * params["x"]))


@pytest.mark.parametrize("value", [squeezed, exploding])
def test_the_hill_is_climbed_whatever_the_scale_and_tail_of_its_values(value):
    config = AcquisitionConfig(first=4)
    best = [
        max(hill(t.params) for t in search(SQUARE, value, 14, config, seed=seed))
        for seed in range(2)
    ]
    assert np.mean(best) > 0.78


PULLS = np.random.default_rng(0).normal(0.0, 0.01, (23, 5))


def rescaled(scale, offset, errors):
    """Return trials whose values, curves and errors are those of one study on another scale."""
    trials = []
    for t in tried(NOMURA, 20, some_value, pending=3):
        curve = ()
        if t.pending:
            curve = (Observation(5, offset + scale * 0.1, scale * 0.02),)
        pulls = PULLS[t.number - 1] * scale if errors == "shared" else []
        influence = {f"case{i}": float(pull) for i, pull in enumerate(pulls)}
        se = scale * 0.02 if errors == "independent" else None
        value = None if t.value is None else offset + scale * t.value
        trials.append(replace(t, value=value, value_se=se, influence=influence, curve=curve))
    return trials


@pytest.mark.parametrize("errors", ["unknown", "independent", "shared"])
def test_the_proposal_does_not_depend_on_the_scale_of_the_values(errors):
    expected = propose(NOMURA, rescaled(1.0, 0.0, errors), AcquisitionConfig(), rng())
    for scale, offset in ((0.01, 0.9), (1e6, 0.0), (1.0, -50.0), (1e-6, 0.0)):
        trials = rescaled(scale, offset, errors)
        assert propose(NOMURA, trials, AcquisitionConfig(), rng()) == expected


BOOLS = parse_space({"parameters": {"a": {"kind": "bool"}, "b": {"kind": "bool"}}})


def test_an_exhausted_space_repeats_its_best_point():
    config = AcquisitionConfig(first=2)
    trials = search(BOOLS, lambda p: 0.5 + 0.2 * p["a"] + 0.2 * p["b"], 4, config)
    assert len({point_key(t.params) for t in trials}) == 4
    assert propose(BOOLS, trials, config, rng()) == {"a": True, "b": True}


@pytest.mark.parametrize("done", [2, 3, 4])
def test_free_workers_get_distinct_points_of_a_nearly_exhausted_space(done):
    config = AcquisitionConfig(first=2)
    trials = search(BOOLS, lambda p: 0.5 + 0.2 * p["a"] + 0.2 * p["b"], done, config)
    for number in range(4):
        params = propose(BOOLS, trials, config, rng(number))
        trials.append(Trial(number=len(trials) + 1, params=params))
    counts = Counter(point_key(t.params) for t in trials[done:])
    assert max(counts.values()) <= (2 if done == 2 else 4 - done + 1)


def test_fixed_parameters_stay_fixed():
    parameters = {"depth": {"kind": "fixed", "value": 3}, "flip": {"kind": "bool"}}
    trials = search(parse_space({"parameters": parameters}), lambda p: 0.5, 8, AcquisitionConfig())
    assert {t.params["depth"] for t in trials} == {3}


@st.composite
def spaces(draw):
    parameters = {"first": {"kind": "bool"}}
    for i in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["float", "int", "categorical", "ordinal", "fixed"]))
        parameter = {
            "float": {"low": 0.5, "high": 2.0, "log": draw(st.booleans())},
            "int": {"low": 1, "high": draw(st.integers(2, 20))},
            "categorical": {"values": ["a", "b", "c"][: draw(st.integers(2, 3))]},
            "ordinal": {"values": [1, 2, 8]},
            "fixed": {"value": 5},
        }[kind]
        if draw(st.booleans()):
            parameter["when"] = {"first": [True]}
        parameters[f"p{i}"] = {"kind": kind, **parameter}
    return parse_space({"parameters": parameters})


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces(), st.sampled_from(MODELS), st.integers(0, 1000))
def test_every_kind_of_space_gives_valid_points(space, strategy, seed):
    trials = [
        complete(i + 1, space.sample(rng(seed + i)), float(rng(seed + i).random()), None)
        for i in range(7)
    ]
    params = propose(space, trials, AcquisitionConfig(strategy=strategy), rng(seed))
    assert space.check(params) == params
