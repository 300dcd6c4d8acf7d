"""Search a space for the point with the highest score, among those not tried yet.

    random points, points near the best ──▶ three rounds of neighbours of the leaders

BoTorch's ``optimize_acqf_mixed_alternating`` can neither express conditional parameters and bounds
that depend on another parameter, nor avoid points that have been tried or are not allowed.  Its
gradient steps made results worse here (docs/tuning-methods.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.hpo.model.encoding import Features, nearby
from nodule_det.hpo.model.training_data import TrainingData
from nodule_det.hpo.space.space import Params, Space, point_key
from nodule_det.hpo.strategy.random_search import Allowed, untried
from nodule_det.hpo.strategy.scoring import Scorer
from nodule_det.hpo.study.trial import Trial

RANDOM_CANDIDATES = 600
LOCAL_CANDIDATES = 500
INCUMBENTS = 6
"""Number of best points around which local candidates are drawn."""
REFINEMENTS = 3
"""Number of rounds in which neighbours of the most promising candidates are added."""
REFINED = 8
NEIGHBOURS = 25
LISTED = 1000
"""Number of untried points of a finite space that are listed when no draw finds a new one."""


class Candidates:
    """Distinct new points with their scores.

    Args:
        features: Map from the space to model inputs.
        tried: (t, d) model inputs of all trials, which are not repeated.
        score: Scores points.
        allowed: Whether a point may be chosen or searched around; None allows all.
    """

    def __init__(
        self, features: Features, tried: FloatArray, score: Scorer, allowed: Allowed | None
    ) -> None:
        self._features, self._score, self._allowed = features, score, allowed
        self._known = {_key(x) for x in tried}
        self._verdicts: dict[int, bool] = {}
        self._scores = np.empty(0)
        self.units = np.empty((0, features.space.dimension))
        """(c, p) coordinates."""

    def add(self, units: FloatArray) -> None:
        """Score those points at coordinates (n, p) that are new."""
        kept = []
        for i, row in enumerate(self._features.of_units(units)):
            key = _key(row)
            if key not in self._known:
                self._known.add(key)
                kept.append(i)
        if kept:
            self.units = np.concatenate([self.units, units[kept]])
            self._scores = np.concatenate([self._scores, self._score(units[kept])])

    def leading(self, count: int) -> list[int]:
        """Return the allowed points with the highest scores, best first."""
        downwards = map(int, np.argsort(-self._scores, kind="stable"))
        return list(islice(filter(self._may, downwards), count))

    def params(self, i: int) -> Params:
        """Return one point."""
        return self._features.space.from_unit(self.units[i])

    def _may(self, i: int) -> bool:
        if i not in self._verdicts:
            self._verdicts[i] = self._allowed is None or self._allowed(self.params(i))
        return self._verdicts[i]


def search(
    features: Features,
    data: TrainingData,
    means: FloatArray,
    trials: Sequence[Trial],
    score: Scorer,
    rng: np.random.Generator,
    allowed: Allowed | None,
) -> Params:
    """Return the most promising point that is new and allowed, or else repeat the most promising.

    Args:
        features: Map from the space to model inputs.
        data: Results of the trials.
        means: (n,) posterior means at the values; candidates are drawn around the largest.
        trials: All trials, whose points are not repeated.
        score: Scores points.
        rng: Source of the candidates.
        allowed: Whether a point may be chosen; None allows all.
    """
    space = features.space
    incumbents = np.argsort(-means, kind="stable")[:INCUMBENTS]
    best = np.array([space.to_unit(data.params[i]) for i in incumbents])
    tried = features.matrix([t.params for t in trials])
    candidates = Candidates(features, tried, score, allowed)
    drawn = [
        rng.random((RANDOM_CANDIDATES // 2, space.dimension)),
        _from_priors(space, RANDOM_CANDIDATES // 2, rng),
        nearby(best, LOCAL_CANDIDATES // len(best), rng),
    ]
    candidates.add(np.concatenate(drawn))
    if not candidates.leading(1):  # nearly exhausted
        left = islice(untried(space, {point_key(t.params) for t in trials}), LISTED)
        candidates.add(np.array([space.to_unit(p) for p in left]).reshape(-1, space.dimension))
    for _ in range(REFINEMENTS):
        top = candidates.leading(REFINED)
        if not top:
            return _repeat(features, data, score)
        candidates.add(nearby(candidates.units[top], NEIGHBOURS, rng))
    return candidates.params(candidates.leading(1)[0])


def _from_priors(space: Space, count: int, rng: np.random.Generator) -> FloatArray:
    if all(p.prior is None for p in space.free):
        return rng.random((count, space.dimension))
    return np.array([space.to_unit(space.sample_prior(rng)) for _ in range(count)])


def _key(inputs: FloatArray) -> bytes:
    """Return the identity of a point: its rounded model inputs, which differ between points."""
    return bytes(np.round(inputs, 9).tobytes())


def _repeat(features: Features, data: TrainingData, score: Scorer) -> Params:
    """Repeat the most promising point with a value, among those with the fewest running copies."""
    units = np.array([features.space.to_unit(p) for p in data.params])
    running = [_key(x) for x in data.pending]
    copies = np.array([running.count(_key(x)) for x in data.features])
    scores = np.where(copies == copies.min(), score(units), -np.inf)
    return dict(data.params[int(np.argmax(scores))])
