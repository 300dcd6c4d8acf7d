"""When a finite space has been tried completely."""

import pytest

from nodule_det.config.hpo import Strategy
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.space.space import point_key
from nodule_det.hpo.strategy.finite import why_enough
from nodule_det.hpo.strategy.random_search import untried
from nodule_det.hpo.study.trial import Reason, Trial, TrialState

SPACE = parse_space(
    {
        "parameters": {
            "flip": {"kind": "bool"},
            "n": {"kind": "int", "low": 1, "high": 3, "when": {"flip": [True]}},
        }
    }
)
POINTS = [{"flip": False}, *({"flip": True, "n": n} for n in (1, 2, 3))]
ALL = "every point of the search space (4 in all) has been tried"


def complete(number, params, value):
    return Trial(number=number, params=params, state=TrialState.COMPLETE, value=value)


def tried(points, value=lambda i: 0.1 * i):
    return [complete(i + 1, p, value(i)) for i, p in enumerate(points)]


def test_untried_points_are_those_that_no_trial_has():
    assert sorted(map(point_key, untried(SPACE, set()))) == sorted(map(point_key, POINTS))
    keys = {point_key(p) for p in POINTS[:3]}
    assert list(untried(SPACE, keys)) == POINTS[3:]


def test_a_space_with_a_float_is_never_exhausted():
    space = parse_space({"parameters": {"x": {"kind": "float", "low": 0, "high": 1}}})
    assert list(untried(space, set())) == []
    assert why_enough(space, tried([{"x": 0.5}] * 9), Strategy.nei) == ""


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_untried_point_is_of_use(strategy):
    assert why_enough(SPACE, tried(POINTS[:3]), strategy) == ""


@pytest.mark.parametrize("strategy", [Strategy.random, Strategy.sobol])
def test_strategies_without_a_model_end_with_the_space(strategy):
    assert why_enough(SPACE, tried(POINTS), strategy) == ALL


def test_one_repetition_shows_whether_more_are_of_use():
    once = tried(POINTS)
    assert why_enough(SPACE, once, Strategy.nei) == ""
    running = [*once, Trial(number=5, params=POINTS[3])]
    assert why_enough(SPACE, running, Strategy.nei) == (
        f"{ALL}; waiting for the running ones before one is repeated"
    )
    same, other = ([*once, complete(5, POINTS[3], value)] for value in (once[3].value, 0.31))
    assert why_enough(SPACE, same, Strategy.nei) == (f"{ALL}, and a repetition gave the same value")
    assert why_enough(SPACE, other, Strategy.nei) == ""


def test_a_repetition_that_fails_shows_nothing():
    failed = {"state": TrialState.FAILED, "reason": Reason.ERROR}
    trials = [*tried(POINTS), Trial(number=5, params=POINTS[3], **failed)]
    assert why_enough(SPACE, trials, Strategy.nei) == ""


def test_failures_are_not_repeated():
    failed = {"state": TrialState.FAILED, "reason": Reason.OUT_OF_MEMORY}
    trials = [Trial(number=i + 1, params=p, **failed) for i, p in enumerate(POINTS)]
    assert why_enough(SPACE, trials, Strategy.nei) == f"{ALL}, and none gave a value"


def test_points_that_are_not_allowed_need_not_be_tried():
    trials = tried(POINTS[:2])
    assert why_enough(SPACE, trials, Strategy.random, lambda p: p.get("n") != 3) == ""
    assert why_enough(SPACE, trials, Strategy.random, lambda p: p.get("n", 1) < 2) == (
        "all points of the search space within the limits of a job have been tried"
    )
