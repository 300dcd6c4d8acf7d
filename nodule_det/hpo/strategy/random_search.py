"""Baselines: random and quasi-random search.

    propose(space, trials, config, rng) ──▶ params

Both depend only on the list of trials.  A point is repeated only if the space has no new one, and a
point that is not allowed is returned only if no point is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence, Set
from itertools import islice
from typing import TypeAlias

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.space.space import Params, Space, point_key
from nodule_det.hpo.study.trial import Trial

TRIES = 1000
"""Number of draws, and then of untried points of a finite space, before a point is repeated."""
Allowed: TypeAlias = Callable[[Params], bool]
"""Whether a point may be proposed.  Possibly slow, so only a few points are checked."""


def untried(space: Space, tried: Set[Hashable]) -> Iterator[Params]:
    """Iterate over the points of a finite space whose keys are not among ``tried``.

    Yields nothing for a space with floats.
    """
    return (params for params in space.points() if point_key(params) not in tried)


def draw_new(
    space: Space, draw: Callable[[], Params], tried: Set[Hashable], allowed: Allowed | None = None
) -> Params:
    """Draw until a point is new and allowed.  Otherwise return an allowed one, or else any."""
    repeated = None
    for _ in range(TRIES):
        params = draw()
        if allowed is not None and not allowed(params):
            continue
        if point_key(params) not in tried:
            return params
        repeated = params
    left = islice(untried(space, tried), TRIES)
    found = next((p for p in left if allowed is None or allowed(p)), None)
    return found or repeated or params


def propose_random(
    space: Space,
    trials: Sequence[Trial],
    config: AcquisitionConfig,
    rng: np.random.Generator,
    *,
    allowed: Allowed | None = None,
) -> Params:
    """Draw a point uniformly from the unit cube.

    Args:
        space: The search space.
        trials: All trials so far, whose points are not repeated.
        config: Unused; part of the common signature.
        rng: Source of the draw.
        allowed: Whether a point may be proposed; None allows all.

    Returns:
        Values for every active parameter.
    """
    tried = {point_key(t.params) for t in trials}
    return draw_new(space, lambda: space.sample(rng), tried, allowed)


def propose_sobol(
    space: Space,
    trials: Sequence[Trial],
    config: AcquisitionConfig,
    rng: np.random.Generator,
    *,
    allowed: Allowed | None = None,
) -> Params:
    """Return the next point of a scrambled Sobol sequence, which fills the cube evenly.

    Args:
        space: The search space.
        trials: All trials so far; their number is the position in the sequence.
        config: Its seed scrambles the sequence, the same for the whole study.
        rng: Source of a random point, drawn if the next one is not new or not allowed.
        allowed: Whether a point may be proposed; None allows all.

    Returns:
        Values for every active parameter.
    """
    from scipy.stats import qmc  # takes half a second to import

    tried = {point_key(t.params) for t in trials}
    sequence = qmc.Sobol(space.dimension, scramble=True, rng=np.random.default_rng(config.seed))
    if trials:  # SciPy overflows when forwarding by 0
        sequence.fast_forward(len(trials))
    params = space.from_unit(sequence.random(1)[0])
    if point_key(params) not in tried and (allowed is None or allowed(params)):
        return params
    return propose_random(space, trials, config, rng, allowed=allowed)
