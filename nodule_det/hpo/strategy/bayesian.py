"""Choose the next point with a Gaussian process and an acquisition function.

    trials ──▶ with a value ────────fit_surrogate()────▶ GPs ─┐
           ──▶ failed ──────────────fit_feasibility()──▶ p ───┼──▶ scores of real points ──▶ params
           ──▶ pending ───────────────────────────────────────┘

Importing this module loads torch; ``strategy.propose`` does so for the strategies that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Features, nearby
from nodule_det.hpo.model.feasibility import Feasibility, fit_feasibility
from nodule_det.hpo.model.gp import Surrogate, fit_surrogate
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.model.training_data import TrainingData, training_data
from nodule_det.hpo.space.space import Params, Space, point_key
from nodule_det.hpo.strategy.random_search import Allowed, draw_new, propose_random
from nodule_det.hpo.study.trial import Trial

Score = Callable[[FloatArray, FloatArray], FloatArray]
"""Model inputs (c, d) and coordinates (c, p) of candidates -> score of each, (c,)."""

RANDOM_CANDIDATES = 600
LOCAL_CANDIDATES = 500
INCUMBENTS = 6
"""Number of best points around which local candidates are drawn."""
REFINEMENTS = 3
"""Number of rounds in which neighbours of the most promising candidates are added."""
REFINED = 8
NEIGHBOURS = 25
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
    promise = method.acquisition(surrogate, data.pending, int(rng.integers(2**31)))
    score = _scorer(space, data, promise, feasibility, config)
    means = surrogate.posterior(data.features)[0].mean(0)
    tried = features.matrix([t.params for t in trials])
    return _search(features, data, means, tried, score, rng, allowed)


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

    return draw_new(draw, {point_key(t.params) for t in trials}, allowed)


def _scorer(
    space: Space,
    data: TrainingData,
    promise: acquisition.Score,
    feasibility: Feasibility,
    config: AcquisitionConfig,
) -> Score:
    """Return the function that scores points, with the settings applied."""
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


def _cost(data: TrainingData) -> Surrogate | None:
    """Model the logarithm of the run time; None if no run time is known."""
    known = np.isfinite(data.log_seconds)
    if not known.any():
        return None
    return fit_surrogate(data.features[known], standardise(data.log_seconds[known], None))


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
        features: Map from the space to model inputs.
        data: Results of the trials.
        means: (n,) posterior means at the values; candidates are drawn around the largest.
        tried: (t, d) model inputs of all trials, which must not be repeated.
        score: Scores candidates.
        rng: Source of the candidates.
        allowed: Whether a candidate may be chosen or searched around; None allows all.
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
    """Return the allowed points with the highest scores, best first."""
    downwards = map(int, np.argsort(-scores, kind="stable"))
    return list(islice(filter(may, downwards), count))


def _from_priors(space: Space, count: int, rng: np.random.Generator) -> FloatArray:
    if all(p.prior is None for p in space.free):
        return rng.random((count, space.dimension))
    return np.array([space.to_unit(space.sample_prior(rng)) for _ in range(count)])


def _new(features: Features, units: FloatArray, known: set[bytes]) -> tuple[FloatArray, FloatArray]:
    """Return coordinates and inputs of new, distinct points, and add them to ``known``."""
    x = features.of_units(units)
    kept = []
    for i, row in enumerate(x):
        key = _key(row)
        if key not in known:
            known.add(key)
            kept.append(i)
    return units[kept], x[kept]


def _key(inputs: FloatArray) -> bytes:
    """Return the identity of a point: its rounded model inputs, which differ between points."""
    return bytes(np.round(inputs, 9).tobytes())


def _replicate(space: Space, data: TrainingData, score: Score) -> Params:
    """Repeat the most promising point with a value, among those with the fewest running copies."""
    units = np.array([space.to_unit(p) for p in data.params])
    running = [_key(x) for x in data.pending]
    copies = np.array([running.count(_key(x)) for x in data.features])
    scores = np.where(copies == copies.min(), score(data.features, units), -np.inf)
    return dict(data.params[int(np.argmax(scores))])
