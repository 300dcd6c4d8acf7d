"""Choose the next point with a Gaussian process and an acquisition function.

    trials ──▶ with a value ────────fit_surrogate()────▶ GPs ─┐
           ──▶ failed ──────────────fit_feasibility()──▶ p ───┼──▶ Scorer ──search()──▶ params
           ──▶ pending ───────────────────────────────────────┘

Importing this module loads torch; ``strategy.propose`` does so for the strategies that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import Feasibility, fit_feasibility
from nodule_det.hpo.model.gp import Surrogate, fit_surrogate
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.space import Params, Space, point_key
from nodule_det.hpo.strategy.random_search import Allowed, draw_new, propose_random
from nodule_det.hpo.strategy.scoring import Scorer
from nodule_det.hpo.strategy.search import search
from nodule_det.hpo.study.trial import Trial

MODELS = 8
"""Number of models with different hyperparameters over which the improvement is averaged."""
DRAWN_UP_TO = 500
"""Number of values above which only the most probable hyperparameters are used, which are then well
determined."""
PRIOR_TRIALS = 6.0
"""A prior has full weight up to this number of results, and PRIOR_TRIALS / n beyond it."""
FIRST_CANDIDATES = 128
"""After a failure, a first point is the one most likely to succeed among this many draws."""


@dataclass(frozen=True)
class Method:
    """How one model-based strategy differs from the others."""

    acquisition: Callable[[Surrogate, FloatArray, int], acquisition.Score]
    """Surrogate, pending points (m, d) and a seed -> score."""
    one_model: bool = False
    """Draw the hyperparameters only once, even with ``draw_scales``."""
    sees_running: bool = True
    """Whether validations of running trainings inform the model."""


def propose_by_model(
    method: Method,
    space: Space,
    trials: Sequence[Trial],
    config: AcquisitionConfig,
    rng: np.random.Generator,
    *,
    allowed: Allowed | None = None,
) -> Params:
    """Choose the next point with a model of the values; see ``strategy.propose``."""
    if space.dimension == 0:
        return propose_random(space, trials, config, rng, allowed=allowed)
    features = Features(space)
    ordered = sorted(trials, key=lambda t: t.number)
    running = config.running_curves and method.sees_running
    data = training_data(features, ordered, config.failures, running)
    feasibility = fit_feasibility(data.outcomes, data.succeeded)
    if len(data.outcomes) < config.first or not len(data.values):
        return _first_point(features, trials, feasibility, rng, allowed)
    drawn = config.draw_scales and len(data.values) <= DRAWN_UP_TO
    surrogate = fit_surrogate(
        data.features,
        data.standardised(),
        columns=data.columns,
        rng=rng if drawn else None,
        draws=MODELS if drawn and not method.one_model else 1,
    )
    improvement = method.acquisition(surrogate, data.pending, int(rng.integers(2**31)))
    prior_weight = min(1.0, PRIOR_TRIALS / len(data.values))
    score = Scorer(features, improvement, feasibility, prior_weight)
    means = surrogate.posterior(data.features)[0].mean(0)
    return search(features, data, means, trials, score, rng, allowed)


def _first_point(
    features: Features,
    trials: Sequence[Trial],
    feasibility: Feasibility,
    rng: np.random.Generator,
    allowed: Allowed | None,
) -> Params:
    """Draw from the priors.  After the first failure, prefer points likely to succeed."""
    space = features.space

    def draw() -> Params:
        if feasibility.knows_nothing:
            return space.sample_prior(rng)
        points = [space.sample_prior(rng) for _ in range(FIRST_CANDIDATES)]
        return points[int(np.argmax(feasibility.log_chance(features.matrix(points))))]

    return draw_new(space, draw, {point_key(t.params) for t in trials}, allowed)
