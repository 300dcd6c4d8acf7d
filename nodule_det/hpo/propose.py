"""The next point, a pure function of the list of trials.

    trials ──▶ completed, stopped ──fit_surrogate()────▶ GP ──┐
           ──▶ failed ──────────────fit_feasibility()──▶ p ───┼──▶ scores of real points ──▶ params
           ──▶ pending ───────────────────────────────────────┘

Nothing is kept beside the trials: whoever holds the same list and the same generator gets the
same point.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo import acquisition
from nodule_det.hpo.baselines import TRIES, propose_random, propose_sobol
from nodule_det.hpo.evidence import Evidence, gather
from nodule_det.hpo.feasibility import fit_feasibility
from nodule_det.hpo.features import Features, neighbours
from nodule_det.hpo.space import Params, Space, point_key
from nodule_det.hpo.surrogate import Surrogate, fit_surrogate
from nodule_det.hpo.trial import Trial

FloatArray = NDArray[np.float64]
Score = Callable[[list[Params]], FloatArray]

RANDOM_CANDIDATES = 600
LOCAL_CANDIDATES = 500
INCUMBENTS = 6
"""Best points around which local candidates are drawn."""
REFINEMENTS = 3
"""Rounds in which the most promising candidates get neighbours of their own."""
REFINED = 8
NEIGHBOURS = 25
PRIOR_TRIALS = 6.0
"""A prior weighs in full up to this number of results, and by its share of them afterwards."""


def propose(
    space: Space, trials: Sequence[Trial], config: AcquisitionConfig, rng: np.random.Generator
) -> Params:
    """Choose the next point to try.

    Args:
        space: The search space.
        trials: All trials so far, in any order; those without an outcome count as running.
        config: Strategy and its settings.
        rng: The only source of randomness.

    Returns:
        Values for every active parameter: a point of the space that was neither tried nor is
        running.  Once the space has no other left, the most promising one is repeated.
    """
    if config.strategy is Strategy.sobol:
        return propose_sobol(space, trials, config, rng)
    if config.strategy is Strategy.random or space.dimension == 0:
        return propose_random(space, trials, config, rng)
    features = Features(space)
    evidence = gather(features, sorted(trials, key=lambda t: t.number), config.failures)
    tried = {point_key(t.params) for t in trials}
    if len(evidence.values) < config.first:
        return _first_point(space, tried, rng)
    draw = rng if config.draw_scales else None
    surrogate = fit_surrogate(evidence.features, evidence.values, evidence.se, draw)
    score = _scorer(space, features, evidence, surrogate, config, rng)
    return _search(space, evidence, surrogate, tried, score, rng)


def _first_point(space: Space, tried: Set[Hashable], rng: np.random.Generator) -> Params:
    for _ in range(TRIES):
        params = space.sample_prior(rng)
        if point_key(params) not in tried:
            break
    return params


def _scorer(
    space: Space,
    features: Features,
    evidence: Evidence,
    surrogate: Surrogate,
    config: AcquisitionConfig,
    rng: np.random.Generator,
) -> Score:
    """Make the function that says how much points promise, as the settings want it."""
    promise = _promise(surrogate, evidence.pending, config.strategy, rng)
    feasibility = fit_feasibility(evidence.outcomes, evidence.succeeded)
    log_seconds = _cost(evidence) if config.cost else None
    has_prior = any(p.prior is not None for p in space.free)
    prior_weight = min(1.0, PRIOR_TRIALS / len(evidence.values)) if has_prior else 0.0

    def score(points: list[Params]) -> FloatArray:
        x = features.matrix(points)
        scores = promise(x) + feasibility.log_chance(x)
        if log_seconds is not None:
            scores = scores - log_seconds.predict(x)[0]
        if has_prior:
            scores = scores + prior_weight * np.array([space.log_prior(p) for p in points])
        return np.asarray(scores, np.float64)

    return score


def _promise(
    surrogate: Surrogate, pending: FloatArray, strategy: Strategy, rng: np.random.Generator
) -> acquisition.Score:
    match strategy:
        case Strategy.nei:
            return acquisition.log_nei(surrogate, pending, rng)
        case Strategy.ei_fantasies:
            return acquisition.log_ei_over_fantasies(surrogate, pending, rng)
        case Strategy.thompson:
            return acquisition.thompson(surrogate, rng)
        case Strategy.ei:
            return acquisition.log_ei(surrogate)
        case _:
            raise AssertionError(f"{strategy} has no model")


def _cost(evidence: Evidence) -> Surrogate | None:
    """Model the logarithm of the node time; None while no training has told its own."""
    known = np.isfinite(evidence.log_seconds)
    if not known.any():
        return None
    return fit_surrogate(evidence.features[known], evidence.log_seconds[known])


def _search(
    space: Space,
    evidence: Evidence,
    surrogate: Surrogate,
    tried: Set[Hashable],
    score: Score,
    rng: np.random.Generator,
) -> Params:
    """Find the most promising point: candidates of the space, then neighbours of the best ones."""
    mean, _ = surrogate.posterior(surrogate.features)
    best = [evidence.params[i] for i in np.argsort(-mean, kind="stable")[:INCUMBENTS]]
    drawn = [space.sample(rng) for _ in range(RANDOM_CANDIDATES // 2)]
    drawn += [space.sample_prior(rng) for _ in range(RANDOM_CANDIDATES // 2)]
    drawn += _around(space, best, LOCAL_CANDIDATES // len(best), rng)
    points = _new(drawn, tried)
    if not points:
        return _replicate(evidence, score)
    scores = score(points)
    for _ in range(REFINEMENTS):
        top = [points[i] for i in np.argsort(-scores, kind="stable")[:REFINED]]
        known = tried | {point_key(p) for p in points}
        more = _new(_around(space, top, NEIGHBOURS, rng), known)
        if more:
            points, scores = points + more, np.concatenate([scores, score(more)])
    return points[int(np.argmax(scores))]


def _around(
    space: Space, centers: list[Params], count: int, rng: np.random.Generator
) -> list[Params]:
    return [near for center in centers for near in neighbours(space, center, count, rng)]


def _new(points: list[Params], tried: Set[Hashable]) -> list[Params]:
    """Keep the points that were not tried, each once, in their order."""
    keyed = {point_key(p): p for p in points}
    return [p for key, p in keyed.items() if key not in tried]


def _replicate(evidence: Evidence, score: Score) -> Params:
    """Repeat the most promising of the points that gave a value."""
    return dict(evidence.params[int(np.argmax(score(evidence.params)))])
