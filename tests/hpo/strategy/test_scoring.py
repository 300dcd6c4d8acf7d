import warnings

import numpy as np
import pytest
import torch

from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import fit_feasibility
from nodule_det.hpo.model.gp import exact, fit_surrogate
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy import scoring
from nodule_det.hpo.strategy.scoring import Scorer

SPACE = parse_space(
    {
        "parameters": {
            "kind": {"kind": "categorical", "values": ["a", "b", "c"]},
            "rate": {
                "kind": "float",
                "low": 1.0e-5,
                "high": 0.1,
                "log": True,
                "prior": {"center": 0.01, "spread": 10},
            },
            "n": {"kind": "int", "low": 1, "high": 9},
            "share": {"kind": "float", "low": 0.0, "high": 1.0, "when": {"kind": ["b"]}},
            "flip": {"kind": "bool"},
        }
    }
)
A, B = 1 / 6, 1 / 2
"""Coordinates of kind=a, which has no share, and of kind=b."""


@pytest.fixture(scope="module")
def scorer():
    rng = np.random.default_rng(0)
    features = Features(SPACE)
    x = features.of_units(rng.random((25, SPACE.dimension)))
    values = rng.normal(size=25)
    surrogate = fit_surrogate(x, standardise(values, np.full(25, 0.1)), columns=features.columns)
    improvement = acquisition.log_nei(surrogate, x[:2], 0)
    feasibility = fit_feasibility(x, np.arange(25) > 4)
    return Scorer(features, improvement, feasibility, prior_weight=0.5)


def test_the_gradient_is_that_of_finite_differences_by_the_floats_that_exist(scorer):
    rng = np.random.default_rng(1)
    units = rng.random((6, SPACE.dimension))
    units[:, 0] = [A, B] * 3
    at = torch.from_numpy(units).requires_grad_(True)
    with exact():
        (gradient,) = torch.autograd.grad(scorer._at(at).sum(), at)
    expected = np.zeros_like(units)
    for j in (1, 3):
        step = 1e-5 * np.eye(SPACE.dimension)[j]
        expected[:, j] = (scorer(units + step) - scorer(units - step)) / 2e-5
    assert gradient.numpy() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert not gradient[:, [0, 2, 4]].any()
    assert not gradient[::2, 3].any()  # kind=a has no share
    assert gradient[1::2, 3].all()


def test_climbing_raises_every_score_and_moves_only_floats(scorer):
    units = np.random.default_rng(2).random((4, SPACE.dimension))
    higher = scorer.climb(units)
    assert (scorer(higher) > scorer(units)).all()
    assert np.array_equal(higher[:, [0, 2, 4]], units[:, [0, 2, 4]])
    assert ((higher >= 0) & (higher <= 1)).all()


def test_a_line_search_that_ends_at_rounding_errors_is_not_reported(scorer, monkeypatch, recwarn):
    def ends(start, score, **settings):
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as BoTorch does
            warnings.warn("ABNORMAL", UserWarning, stacklevel=1)
        return start, score(start)

    monkeypatch.setattr(scoring, "gen_candidates_scipy", ends)
    units = np.full((1, SPACE.dimension), 0.5)
    assert np.array_equal(scorer.climb(units), units)
    assert len(recwarn) == 0


def test_without_floats_there_is_nothing_to_climb():
    space = parse_space({"parameters": {"n": {"kind": "int", "low": 0, "high": 9}}})
    features = Features(space)
    score = Scorer(features, acquisition.Score(lambda x: x[:, 0]), fit_feasibility(*NOTHING))
    assert score.climb(np.full((2, 1), 0.5)).shape == (0, 1)


NOTHING = np.empty((0, 1)), np.empty(0, bool)
