"""Memory and time limits of a job: refuse a training that is predicted to exceed them.

    trials, limits ──▶ ResourceLimits ──forecast──▶ allows(params): whether it may be proposed
                                     └──▶ why_not(params): why not, or None

Only trainings clearly beyond a limit are refused: by the factor ``forecast.margin`` and, for times,
also by the largest prediction error for the study's own trainings.  A training that is predicted to
need no more than a complete one is never refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from nodule_det.config.hpo import HpoConfig
from nodule_det.config.train import Device
from nodule_det.errors import ConfigError
from nodule_det.forecast.cost import Footprint, Speed, fit_speed, footprint
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import Trial, TrialState
from nodule_det.hpo.training.check import with_params
from nodule_det.progress import counted, duration


class ResourceLimits:
    """Memory and time limits of the jobs of a study.

    Args:
        trials: All trials of the study; the complete ones show what fits and how long it takes.
        config: Settings of the study; those of a training command or network of the user's own
            (``command``, ``train.model.factory``) say nothing about its architecture.
    """

    def __init__(self, trials: Sequence[Trial], config: HpoConfig) -> None:
        self._complete = [t for t in trials if t.state is TrialState.COMPLETE]
        self._config = config

    @property
    def limited(self) -> bool:
        """Whether any training can be refused."""
        ours = not (self._config.command or self._config.train.model.factory)
        forecast = self._config.forecast.refuse and ours
        limits = self._config.dispatcher.memory_gb or time_limit_s(self._config)[0]
        return bool(forecast and limits)

    def allows(self, params: Params) -> bool:
        """Return False if a training is predicted to exceed a limit."""
        return self.why_not(params) is None

    def why_not(self, params: Params) -> str | None:
        """Return the limit that a training is predicted to exceed, or None."""
        if not self.limited:
            return None
        try:
            needs = needs_of(params, self._config)
        except ConfigError as error:
            return f"refused by the train command: {error}"
        return self._too_large(needs) or self._too_long(needs)

    def _too_large(self, needs: Footprint) -> str | None:
        limit, margin = self._config.dispatcher.memory_gb, self._config.forecast.margin
        needs_gb = needs.memory_bytes / 1e9
        if not limit or needs_gb <= margin * limit or needs_gb <= self._largest_gb:
            return None
        return (
            f"predicted to need {needs_gb:.1f} GB of memory, over {margin:g} times "
            f"dispatcher.memory_gb={limit:g}"
        )

    def _too_long(self, needs: Footprint) -> str | None:
        limit_s, name = time_limit_s(self._config)
        if not limit_s or self._speed is None:
            return None
        margin = self._config.forecast.margin * self._speed.off
        seconds = self._speed.seconds(needs)
        if seconds <= margin * limit_s or seconds <= max(t.seconds for t in self._complete):
            return None
        return (
            f"predicted to take {duration(seconds)}, over {margin:.1f} times the "
            f"{duration(limit_s)} of {name}"
        )

    @cached_property
    def _largest_gb(self) -> float:
        """Predicted memory of the largest complete training."""
        needs = [needs_of(t.params, self._config).memory_bytes for t in self._complete]
        return max(needs, default=0) / 1e9

    @cached_property
    def _speed(self) -> Speed | None:
        known = [t for t in self._complete if t.seconds > 0]
        return fit_speed(
            [needs_of(t.params, self._config) for t in known], [t.seconds for t in known]
        )


def needs_of(params: Params, config: HpoConfig) -> Footprint:
    """Predict the resources of a training; with device=auto the smaller figure of a GPU."""
    train = with_params(config.train, params)
    return footprint(train, gpu=train.device is not Device.cpu)


def time_limit_s(config: HpoConfig) -> tuple[float, str]:
    """Return the longest total time of a training, and the settings that define it."""
    if config.forecast.hours:
        return config.forecast.hours * 3600, f"forecast.hours={config.forecast.hours:g}"
    sessions = 1 + config.retries.stopped
    return config.dispatcher.walltime_s * sessions, (
        f"{counted(sessions, 'job')} of dispatcher.walltime_s={config.dispatcher.walltime_s:g} "
        f"(retries.stopped={config.retries.stopped})"
    )
