"""The search on scores that are known exactly, without a model."""

import numpy as np
import pytest

from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import fit_feasibility
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy.scoring import Scorer
from nodule_det.hpo.strategy.search import search
from nodule_det.hpo.study.trial import Trial, TrialState

UNIT = {"kind": "float", "low": 0.0, "high": 1.0}


def found(space, score, trials, allowed=None):
    features = Features(space)
    data = training_data(features, trials, Failures.model)
    scorer = Scorer(features, score, fit_feasibility(data.outcomes, data.succeeded))
    rng = np.random.default_rng(0)
    return search(features, data, data.values, trials, scorer, rng, allowed)


def complete(number, params):
    return Trial(number=number, params=params, state=TrialState.COMPLETE, value=0.5)


def test_the_top_of_a_smooth_score_is_found():
    space = parse_space({"parameters": {f"x{i}": UNIT for i in range(6)} | {"b": {"kind": "bool"}}})
    top = [0.1 + 0.13 * i for i in range(6)]

    def score(x):
        return -sum((x[:, i] - top[i]) ** 2 for i in range(6)) + 0.01 * x[:, 6]

    params = found(space, score, [complete(1, space.from_unit(np.full(7, 0.9)))])
    assert params.pop("b") is True
    assert list(params.values()) == pytest.approx(top, abs=0.1)


def test_the_last_untried_point_of_a_large_finite_space_is_found():
    space = parse_space(
        {"parameters": {f"n{i}": {"kind": "int", "low": 0, "high": 19} for i in range(3)}}
    )
    last = {"n0": 13, "n1": 2, "n2": 17}
    tried = [complete(i + 1, p) for i, p in enumerate(p for p in space.points() if p != last)]
    assert len(tried) == 20**3 - 1
    assert found(space, lambda x: x[:, 0], tried) == last


def test_a_finite_space_without_an_untried_point_repeats_the_best_one():
    space = parse_space({"parameters": {"n": {"kind": "int", "low": 0, "high": 9}}})
    tried = [complete(i + 1, p) for i, p in enumerate(space.points())]
    assert found(space, lambda x: -((x[:, 0] - 0.32) ** 2), tried) == {"n": 3}
    running = [*tried, Trial(number=11, params={"n": 3})]
    assert found(space, lambda x: -((x[:, 0] - 0.32) ** 2), running) == {"n": 2}
