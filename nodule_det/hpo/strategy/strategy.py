"""The signature of every make_strategy, and which one a strategy stands for.

Strategy ──make_strategy()──▶ propose(space, trials, config, rng, allowed=None) ──▶ params
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.strategy.random_search import Allowed, propose_random, propose_sobol
from nodule_det.hpo.study.trial import Trial


class Propose(Protocol):
    """Chooses the next point from the list of trials.

    The driver passes ``allowed`` only in a study with resource limits, so a strategy without it
    serves all others.
    """

    def __call__(
        self,
        space: Space,
        trials: Sequence[Trial],
        config: AcquisitionConfig,
        rng: np.random.Generator,
        /,
        *,
        allowed: Allowed | None = None,
    ) -> Params: ...


def make_strategy(strategy: Strategy) -> Propose:
    """Return the function that a strategy stands for; SciPy is loaded only for the models."""
    if strategy is Strategy.random:
        return propose_random
    if strategy is Strategy.sobol:
        return propose_sobol
    from nodule_det.hpo.strategy.bayesian import propose

    return propose
