"""Honest baselines: random and quasi-random search, behind the signature of every proposer.

    propose(space, trials, config, rng) ──▶ params

Both are functions of the list of trials alone; a point that was tried before is drawn again only
where the space has no other left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.space import Params, Space, point_key
from nodule_det.hpo.trial import Trial

TRIES = 1000
"""Draws before a duplicate is accepted: a small discrete space may be exhausted."""


def propose_random(
    space: Space, trials: Sequence[Trial], config: AcquisitionConfig, rng: np.random.Generator
) -> Params:
    """Draw a point uniformly from the unit cube.

    Args:
        space: The search space.
        trials: All trials so far; only their points matter, for not repeating one.
        config: Not used; here for the common signature.
        rng: Source of the draw.

    Returns:
        Values for every active parameter.
    """
    tried = {point_key(t.params) for t in trials}
    for _ in range(TRIES):
        params = space.sample(rng)
        if point_key(params) not in tried:
            break
    return params


def propose_sobol(
    space: Space, trials: Sequence[Trial], config: AcquisitionConfig, rng: np.random.Generator
) -> Params:
    """Take the next point of a scrambled Sobol sequence, which fills the cube evenly.

    Args:
        space: The search space.
        trials: All trials so far; their number says where in the sequence to go on.
        config: Its seed scrambles the sequence, the same for the whole study.
        rng: Used for a random point once the sequence offers nothing new.

    Returns:
        Values for every active parameter.
    """
    from scipy.stats import qmc  # half a second, which other strategies need not wait for

    tried = {point_key(t.params) for t in trials}
    sequence = qmc.Sobol(space.dimension, scramble=True, rng=np.random.default_rng(config.seed))
    if trials:  # forward by none is an overflow in SciPy
        sequence.fast_forward(len(trials))
    params = space.from_unit(sequence.random(1)[0])
    if point_key(params) not in tried:
        return params
    return propose_random(space, trials, config, rng)
