"""Refuse a training for which no job has room, before it becomes one.

    params ──forecast──▶ memory, seconds ──refusal()──▶ why not, or None ──nearest()──▶ params

Refused is only what lies clearly beyond a limit: by the margin of the settings and, for times, by
the factor that the forecast missed the study's own trainings.  What ran is stronger than what was
foretold: no training is refused that asks for no more than one that is complete.

A model that learns from refused points may insist for long, where all that it has seen says that
larger is better.  So the driver follows a refused proposal by the nearest point that has room.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nodule_det.config.hpo import HpoConfig
from nodule_det.config.train import Device
from nodule_det.hpo.forecast import Footprint, fit_speed, footprint
from nodule_det.hpo.objective import with_params
from nodule_det.hpo.space import Params, Space, point_key
from nodule_det.hpo.trial import Trial, TrialState
from nodule_det.progress import duration

SHARES = tuple(np.linspace(0.05, 1.0, 20))
"""Places on the way from a refused point to one that ran."""
DRAWN = 200
"""Points drawn where there is nothing on the way."""


def refusal(params: Params, trials: Sequence[Trial], config: HpoConfig) -> str | None:
    """Say why a training cannot succeed; None for one that may.

    Args:
        params: Its point of the search space.
        trials: All trials of the study; the complete ones show what fits and how long it takes.
        config: Settings of the study; those of a training command of the user's own
            (``command``) tell nothing of its architecture.
    """
    if not config.forecast.refuse or config.command:
        return None
    return _too_large(params, trials, config) or _too_long(params, trials, config)


def nearest(
    wanted: Params,
    space: Space,
    trials: Sequence[Trial],
    config: HpoConfig,
    rng: np.random.Generator,
) -> Params | None:
    """Find a new point that is not refused, on the way from a refused one to one that ran.

    Args:
        wanted: The refused point.
        space: The search space.
        trials: All trials; the way leads to the best complete one.
        config: Settings of the study.
        rng: Draws points instead where no trial is complete, or nothing new lies on the way.

    Returns:
        None if no point of many has room.
    """
    tried = {point_key(t.params) for t in trials}
    points = [space.sample_prior(rng) for _ in range(DRAWN)]
    complete = [t for t in _complete(trials) if t.value is not None]
    if complete:
        best = max(complete, key=lambda t: t.value or 0.0)
        start, end = space.to_unit(wanted), space.to_unit(best.params)
        way = [space.from_unit(start + share * (end - start)) for share in SHARES]
        points = way + points
    for params in points:
        if point_key(params) not in tried and refusal(params, trials, config) is None:
            return params
    return None


def needs_of(params: Params, config: HpoConfig) -> Footprint:
    """Foretell what a training needs; with device=auto, the smaller figure of a GPU."""
    train = with_params(config.train, params)
    return footprint(train, gpu=train.device is not Device.cpu)


def _too_large(params: Params, trials: Sequence[Trial], config: HpoConfig) -> str | None:
    limit, margin = config.dispatcher.memory_gb, config.forecast.margin
    if not limit:
        return None
    needs_gb = needs_of(params, config).memory_bytes / 1e9
    if needs_gb <= margin * limit:
        return None
    if any(needs_of(t.params, config).memory_bytes / 1e9 >= needs_gb for t in _complete(trials)):
        return None
    return (
        f"forecast to need {needs_gb:.1f} GB of memory, over {margin:g} times "
        f"dispatcher.memory_gb={limit:g}"
    )


def _too_long(params: Params, trials: Sequence[Trial], config: HpoConfig) -> str | None:
    limit_s, name = time_limit_s(config)
    if not limit_s:
        return None
    known = [t for t in _complete(trials) if t.seconds > 0]
    speed = fit_speed([needs_of(t.params, config) for t in known], [t.seconds for t in known])
    if speed is None:
        return None
    margin = config.forecast.margin * speed.off
    seconds = speed.seconds(needs_of(params, config))
    if seconds <= margin * limit_s or seconds <= max(t.seconds for t in known):
        return None
    return (
        f"forecast to take {duration(seconds)}, over {margin:.1f} times the "
        f"{duration(limit_s)} of {name}"
    )


def time_limit_s(config: HpoConfig) -> tuple[float, str]:
    """Give the longest time that a training may take in all, and the settings that say so."""
    if config.forecast.hours:
        return config.forecast.hours * 3600, f"forecast.hours={config.forecast.hours:g}"
    sittings = 1 + config.retries.stopped
    return config.dispatcher.walltime_s * sittings, (
        f"{sittings} jobs of dispatcher.walltime_s={config.dispatcher.walltime_s:g} "
        f"(retries.stopped={config.retries.stopped})"
    )


def _complete(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.state is TrialState.COMPLETE]
