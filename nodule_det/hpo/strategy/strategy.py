"""Choose the next point with the configured strategy: a pure function of the list of trials.

    space, trials, settings, generator ──propose()──▶ params

To add a strategy, add a value to ``nodule_det.config.hpo.Strategy`` and a line to this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.strategy.random_search import Allowed, propose_random, propose_sobol
from nodule_det.hpo.study.trial import Trial


class Propose(Protocol):
    """Choose the next point from the list of trials.

    The driver passes ``allowed`` only in a study with resource limits, so a strategy without this
    argument works in all other studies.
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


def propose(
    space: Space,
    trials: Sequence[Trial],
    config: AcquisitionConfig,
    rng: np.random.Generator,
    *,
    allowed: Allowed | None = None,
) -> Params:
    """Choose the next point to try.

    No state is kept between calls: equal trials and generators produce equal points.

    Args:
        space: The search space.
        trials: All trials so far, in any order.  Those without an outcome count as running.
        config: Strategy and its settings.
        rng: The only source of randomness.
        allowed: Whether a point may be proposed.  Only the most promising ones are checked.  None
            allows all.

    Returns:
        Values for every active parameter: a new point of the space, neither tried nor running.
        Once all points have been tried, the most promising one is repeated.  If no point is
        allowed, one that is not allowed is returned.
    """
    choose = _strategies_without_model.get(config.strategy) or _by_model(config.strategy)
    return choose(space, trials, config, rng, allowed=allowed)


_strategies_without_model: dict[Strategy, Propose] = {
    Strategy.random: propose_random,
    Strategy.sobol: propose_sobol,
}


def _by_model(strategy: Strategy) -> Propose:
    from nodule_det.hpo.model import acquisition  # loads torch (about 250 MB)
    from nodule_det.hpo.strategy.bayesian import Method, propose_by_model

    method = {
        Strategy.nei: Method(acquisition.log_nei),
        Strategy.botorch: Method(acquisition.log_nei),  # former name of nei
        Strategy.ei_fantasies: Method(acquisition.log_ei_over_fantasies),
        Strategy.thompson: Method(acquisition.thompson, one_model=True),
        Strategy.ei: Method(acquisition.log_ei, sees_running=False),
    }[strategy]
    return partial(propose_by_model, method)
