"""The signature of every proposer, and which one a strategy stands for.

Strategy ──proposer()──▶ propose(space, trials, config, rng) ──▶ params
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.baselines import propose_random, propose_sobol
from nodule_det.hpo.space import Params, Space
from nodule_det.hpo.trial import Trial

Propose: TypeAlias = Callable[
    [Space, Sequence[Trial], AcquisitionConfig, np.random.Generator], Params
]


def proposer(strategy: Strategy) -> Propose:
    """Give the function that a strategy stands for; SciPy is loaded only for the models."""
    if strategy is Strategy.random:
        return propose_random
    if strategy is Strategy.sobol:
        return propose_sobol
    from nodule_det.hpo.propose import propose

    return propose
