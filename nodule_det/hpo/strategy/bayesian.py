"""The next point, a pure function of the list of trials.

    trials ──▶ completed, stopped ──draw_surrogates()──▶ GPs ─┐
           ──▶ failed ──────────────fit_feasibility()──▶ p ───┼──▶ scores of real points ──▶ params
           ──▶ pending ───────────────────────────────────────┘

Nothing is kept beside the trials: whoever holds the same list and the same generator gets the
same point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Features, nearby
from nodule_det.hpo.model.feasibility import fit_feasibility
from nodule_det.hpo.model.gp import Surrogate, draw_surrogates, fit_surrogate
from nodule_det.hpo.model.training_data import TrainingData, training_data
from nodule_det.hpo.space.space import Params, Space, point_key
from nodule_det.hpo.strategy.random_search import Allowed, draw_new, propose_random, propose_sobol
from nodule_det.hpo.study.trial import Trial

Score = Callable[[FloatArray, FloatArray], FloatArray]
"""Model inputs (c, d) and coordinates (c, p) of candidates -> how much each promises, (c,)."""

RANDOM_CANDIDATES = 600
LOCAL_CANDIDATES = 500
INCUMBENTS = 6
"""Best points around which local candidates are drawn."""
REFINEMENTS = 3
"""Rounds in which the most promising candidates get neighbours of their own."""
REFINED = 8
NEIGHBOURS = 25
SCALE_DRAWS = 8
"""Models with different scales that the improvement is averaged over."""
PRIOR_TRIALS = 6.0
"""A prior weighs in full up to this number of results, and by its share of them afterwards."""


def propose(
    space: Space,
    trials: Sequence[Trial],
    config: AcquisitionConfig,
    rng: np.random.Generator,
    *,
    allowed: Allowed | None = None,
) -> Params:
    """Choose the next point to try.

    Args:
        space: The search space.
        trials: All trials so far, in any order; those without an outcome count as running.
        config: Strategy and its settings.
        rng: The only source of randomness.
        allowed: Says which points may be proposed; asked only for those that promise most.  None
            allows all.

    Returns:
        Values for every active parameter: a point of the space that was neither tried nor is
        running.  Once the space has no other left, the most promising one is repeated; where
        nothing is allowed, one that is not is given.
    """
    if config.strategy is Strategy.sobol:
        return propose_sobol(space, trials, config, rng, allowed=allowed)
    if config.strategy is Strategy.random or space.dimension == 0:
        return propose_random(space, trials, config, rng, allowed=allowed)
    features = Features(space)
    ordered = sorted(trials, key=lambda t: t.number)
    running = config.running_curves and config.strategy is not Strategy.ei
    data = training_data(features, ordered, config.failures, running)
    if len(data.values) < config.first:
        known = {point_key(t.params) for t in trials}
        return draw_new(lambda: space.sample_prior(rng), known, allowed)
    means, promise = _model(data, config, rng)
    score = _scorer(space, data, promise, config)
    tried = features.matrix([t.params for t in trials])
    return _search(features, data, means, tried, score, rng, allowed)


def _model(
    data: TrainingData, config: AcquisitionConfig, rng: np.random.Generator
) -> tuple[FloatArray, acquisition.Score]:
    """Fit a process to the values; give its means at them, and how much other points promise."""
    x, values, se = data.features, data.values, data.se
    if config.strategy is Strategy.botorch:
        from nodule_det.hpo.model.botorch import fit_botorch  # torch: some 250 MB, 4 s

        seed = int(rng.integers(2**31))
        model = fit_botorch(x, values, se, seed, data.sheared)
        return model.posterior(x)[0], model.log_nei(data.pending, seed)
    if config.draw_scales:
        surrogates = draw_surrogates(x, values, se, rng, SCALE_DRAWS, data.sheared)
    else:
        surrogates = [fit_surrogate(x, values, se, sheared=data.sheared)]
    if config.strategy is Strategy.thompson:  # one draw of everything
        return surrogates[0].posterior(x)[0], acquisition.thompson(surrogates[0], rng)
    draws = acquisition.DRAWS // (4 if config.draw_scales else 1)
    promises = [_promise(s, data.pending, config.strategy, rng, draws) for s in surrogates]
    means = np.mean([s.posterior(x)[0] for s in surrogates], axis=0)
    return means, acquisition.over(promises)


def _scorer(
    space: Space, data: TrainingData, promise: acquisition.Score, config: AcquisitionConfig
) -> Score:
    """Make the function that says how much points promise, as the settings want it."""
    feasibility = fit_feasibility(data.outcomes, data.succeeded)
    log_seconds = _cost(data) if config.cost else None
    has_prior = any(p.prior is not None for p in space.free)
    prior_weight = min(1.0, PRIOR_TRIALS / len(data.values)) if has_prior else 0.0

    def score(x: FloatArray, units: FloatArray) -> FloatArray:
        scores = promise(x) + feasibility.log_chance(x)
        if log_seconds is not None:
            scores = scores - log_seconds.predict(x)[0]
        if has_prior:
            log_prior = [space.log_prior(space.from_unit(u)) for u in units]
            scores = scores + prior_weight * np.array(log_prior)
        return np.asarray(scores, np.float64)

    return score


def _promise(
    surrogate: Surrogate,
    pending: FloatArray,
    strategy: Strategy,
    rng: np.random.Generator,
    draws: int,
) -> acquisition.Score:
    match strategy:
        case Strategy.nei:
            return acquisition.log_nei(surrogate, pending, rng, draws)
        case Strategy.ei_fantasies:
            return acquisition.log_ei_over_fantasies(surrogate, pending, rng, draws)
        case Strategy.ei:
            return acquisition.log_ei(surrogate)
        case _:
            raise AssertionError(f"{strategy} has no model")


def _cost(data: TrainingData) -> Surrogate | None:
    """Model the logarithm of the node time; None while no training has told its own."""
    known = np.isfinite(data.log_seconds)
    if not known.any():
        return None
    return fit_surrogate(data.features[known], data.log_seconds[known])


def _search(
    features: Features,
    data: TrainingData,
    means: FloatArray,
    tried: FloatArray,
    score: Score,
    rng: np.random.Generator,
    allowed: Allowed | None,
) -> Params:
    """Find the most promising point: candidates of the space, then neighbours of the best ones.

    Args:
        features: The map of the space.
        data: What the trials taught.
        means: (n,) what the model makes of the values; says around which trials to look.
        tried: (t, d) model inputs of all trials, none of which is to be repeated.
        score: How much candidates promise.
        rng: Source of the candidates.
        allowed: Says which of them may be chosen, or be looked around; None allows all.
    """
    space = features.space
    incumbents = np.argsort(-means, kind="stable")[:INCUMBENTS]
    best = np.array([space.to_unit(data.params[i]) for i in incumbents])
    drawn = [
        rng.random((RANDOM_CANDIDATES // 2, space.dimension)),
        _from_priors(space, RANDOM_CANDIDATES // 2, rng),
        nearby(best, LOCAL_CANDIDATES // len(best), rng),
    ]
    known = {_key(x) for x in tried}
    units, x = _new(features, np.concatenate(drawn), known)
    if not len(x):
        return _replicate(space, data, score)
    scores = score(x, units)
    verdicts: dict[int, bool] = {}

    def may(i: int) -> bool:
        if i not in verdicts:
            verdicts[i] = allowed is None or allowed(space.from_unit(units[i]))
        return verdicts[i]

    for _ in range(REFINEMENTS):
        top = _leading(scores, may, REFINED)
        if not top:
            return _replicate(space, data, score)
        more, x = _new(features, nearby(units[top], NEIGHBOURS, rng), known)
        if len(x):
            units = np.concatenate([units, more])
            scores = np.concatenate([scores, score(x, more)])
    return space.from_unit(units[_leading(scores, may, 1)[0]])


def _leading(scores: FloatArray, may: Callable[[int], bool], count: int) -> list[int]:
    """Walk down from the highest score and give the first points that may be chosen."""
    downwards = map(int, np.argsort(-scores, kind="stable"))
    return list(islice(filter(may, downwards), count))


def _from_priors(space: Space, count: int, rng: np.random.Generator) -> FloatArray:
    if all(p.prior is None for p in space.free):
        return rng.random((count, space.dimension))
    return np.array([space.to_unit(space.sample_prior(rng)) for _ in range(count)])


def _new(features: Features, units: FloatArray, known: set[bytes]) -> tuple[FloatArray, FloatArray]:
    """Keep the coordinates of points that are not known, each point once; give their inputs too.

    What is kept is known from then on.
    """
    x = features.of_units(units)
    kept = []
    for i, row in enumerate(x):
        key = _key(row)
        if key not in known:
            known.add(key)
            kept.append(i)
    return units[kept], x[kept]


def _key(inputs: FloatArray) -> bytes:
    """Identify a point by its model inputs, but for rounding: two points never share them."""
    return bytes(np.round(inputs, 9).tobytes())


def _replicate(space: Space, data: TrainingData, score: Score) -> Params:
    """Repeat the most promising of the points that gave a value."""
    units = np.array([space.to_unit(p) for p in data.params])
    return dict(data.params[int(np.argmax(score(data.features, units)))])
