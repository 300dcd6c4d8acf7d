"""What the trainings of a study will take: at its start, and in a dry run.

search space, complete trials ──study_lines()──▶ steps, views, memory, hours
command of a trial ──measured_rate()──▶ Rate   (a dry run of the train command)
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_det.config.hpo import DispatcherKind, HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.forecast.forecast import (
    Forecast,
    Rate,
    data_at,
    forecast,
    hours,
    lines,
    nominal_rate,
    on_gpu,
    warnings,
)
from nodule_det.hpo.driver.limits import time_limit_s
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.trial import Trial, TrialState
from nodule_det.hpo.training.check import with_params
from nodule_det.hpo.training.command import command_words, overrides
from nodule_det.progress import counted
from nodule_det.runs import RunFolder
from nodule_det.untrusted import printable, read_object

POINTS = 101
"""Points of the space whose trainings are forecast."""
SAME = 1.5
"""The largest training is only mentioned if it takes this many times the middle one."""
PROBE_S = 600.0
"""Longest time for a dry run of the train command."""
MAX_BYTES = 100_000


@dataclass(frozen=True)
class Plan:
    """What is known of the trainings of a command before they start."""

    command: str = "hpo"
    """The command, for the line that shows how to resume."""
    points: Sequence[Params] = ()
    """The trainings; empty for a search, which chooses them one after the other."""
    rate: Rate | None = None
    """How fast trainings of another study ran on the same system."""
    enqueue: Callable[[], None] | None = None
    """Queues the points, once the study is open and nothing was refused.  No others are tried."""


SEARCH = Plan()


def study_lines(
    config: HpoConfig,
    space: Space,
    trials: Sequence[Trial],
    plan: Plan = SEARCH,
    rate: Rate | None = None,
) -> list[str]:
    """Say what the trainings of a study will take; warnings come last.

    Args:
        config: The study.
        space: Its search space.
        trials: Its trials so far, the complete ones of which show how fast they ran.
        plan: What else is known of its trainings.
        rate: A measured rate, which is preferred.
    """
    if config.command:
        return []
    known = rate or _known_rate(config, trials, plan)
    if known is None and config.dispatcher.kind is DispatcherKind.local:
        known = _rough(config)
    _, middle, largest = _sizes(config, space, plan, known)
    expected = [f"a training: {lines(middle)[0]}", lines(middle)[1]]
    if middle.seconds is not None and largest.seconds is not None:
        if largest.seconds > SAME * middle.seconds:
            of = "these trainings" if plan.points else "this search space"
            expected.append(f"the longest of {of}: {hours(largest.seconds)}")
        expected.append(_total(config, _times_to_come(config, trials, plan, known, middle.seconds)))
    return [*expected, *(f"warning: {line}" for line in _warnings(config, middle, largest))]


def _times_to_come(
    config: HpoConfig, trials: Sequence[Trial], plan: Plan, rate: Rate | None, middle_s: float
) -> list[float]:
    """Return the seconds of each training that has not ended yet."""
    if not plan.points:
        return [middle_s] * max(0, config.trials - sum(not t.pending for t in trials))
    done = [t.params for t in trials if t.state is TrialState.COMPLETE]
    to_come = (point for point in plan.points if point not in done)
    return [_forecast(config, point, rate).seconds or 0.0 for point in to_come]


def _total(config: HpoConfig, times_s: Sequence[float]) -> str:
    """Write how long all trainings take together, and in how many jobs."""
    n, site, total_s = len(times_s), config.dispatcher, sum(times_s)
    workers = min(config.workers, max(1, n))
    text = f"{counted(n, 'training')}, {config.workers} at a time: about "
    text += hours(max(total_s / workers, max(times_s, default=0.0)))
    if session_s := _session_s(config):
        text += f", {counted(sum(math.ceil(s / session_s) for s in times_s), 'job')}"
    if on_gpu(config.train):
        return f"{text}, {total_s / 3600 * site.processes_per_job:.1f} GPU hours"
    if site.kind is DispatcherKind.local:
        return f"{text}, {total_s / 3600 * site.cpus_per_job:.1f} CPU hours"
    return f"{text}, {total_s / 3600:.1f} job hours"


def _session_s(config: HpoConfig) -> float:
    """Return how long a training may compute in one job; 0 for no limit."""
    site = config.dispatcher
    return max(1.0, site.walltime_s - site.walltime_margin_s) if site.walltime_s else 0.0


def has_time_limit(config: HpoConfig) -> bool:
    """Return whether trainings have a limit of time, and a time that can be forecast."""
    return not config.command and not config.train.model.factory and time_limit_s(config)[0] > 0


def require_time(
    config: HpoConfig,
    space: Space,
    trials: Sequence[Trial],
    plan: Plan = SEARCH,
    rate: Rate | None = None,
) -> None:
    """Refuse trainings that cannot finish within their jobs.

    A rough rate refuses nothing: where it is all that is known, 20 steps are timed first if the
    trainings can run on this machine.  A search is refused if not even the smallest training of
    its space can finish, and the trainings of a plan if one of them cannot.

    Raises:
        ConfigError: If the time is forecast to exceed the limit by the factor ``forecast.margin``.
    """
    if not has_time_limit(config):
        return
    limit_s, name = time_limit_s(config)
    known = rate or _known_rate(config, trials, plan)
    if known is None and config.dispatcher.kind is DispatcherKind.local:
        least = _deciding(config, space, plan, _rough(config))
        if least.seconds is not None and least.seconds <= limit_s:
            return
        known = _timed(config, space, plan)
    if known is None:
        return
    least = _deciding(config, space, plan, known)
    if least.seconds is not None and least.seconds > config.forecast.margin * limit_s:
        which = "one training" if plan.points else "the smallest training of this search space"
        raise ConfigError(
            f"{which} is forecast to take {hours(least.seconds)} ({known.source}), more than the "
            f"{hours(limit_s)} of {name}, so it would never finish; raise dispatcher.walltime_s "
            "or retries.stopped, or train for fewer limits.epochs"
        )


def _known_rate(config: HpoConfig, trials: Sequence[Trial], plan: Plan) -> Rate | None:
    """Return how fast trainings ran in this study, or else in the one named by the plan."""
    return rate_of(config.train, trials) or plan.rate


def _deciding(config: HpoConfig, space: Space, plan: Plan, rate: Rate | None) -> Forecast:
    """Return the training that must finish: the smallest of a search, the largest of a plan."""
    smallest, _, largest = _sizes(config, space, plan, rate)
    return largest if plan.points else smallest


def _rough(config: HpoConfig) -> Rate | None:
    return nominal_rate(config.train, config.dispatcher.cpus_per_job)


def _timed(config: HpoConfig, space: Space, plan: Plan) -> Rate | None:
    """Time some steps of a training on this machine; None where it cannot run here."""
    point = plan.points[0] if plan.points else space.sample_prior(np.random.default_rng(0))
    train = overrides(config.train, TrainConfig())
    try:
        return measured_rate(command_words((), train, point, Path(), config.dispatcher))
    except StudyError:
        return None


def rate_of(train: TrainConfig, trials: Sequence[Trial]) -> Rate | None:
    """Return how fast the complete trainings of a study ran; None if there is none."""
    rates = []
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.seconds > 0:
            shown = with_params(train, trial.params)
            expected = forecast(shown, data_at(shown), None)
            rates.append(expected.operations / trial.seconds)
    if not rates:
        return None
    per_s = float(np.median(rates))
    shown_by = counted(len(rates), "complete training") if len(rates) > 1 else "complete training"
    return Rate(per_s, per_s, f"as fast as the {shown_by} of this study")


def _sizes(
    config: HpoConfig, space: Space, plan: Plan, rate: Rate | None
) -> tuple[Forecast, Forecast, Forecast]:
    """Return the forecasts of the smallest, middle and largest training.

    They are those of the plan, or of random points of the search space.
    """
    rng = np.random.default_rng(0)
    points = plan.points or [
        p for p in (space.sample_prior(rng) for _ in range(POINTS)) if _has_two_folds(p)
    ]
    size = [_forecast(config, point, None, with_data=False).operations for point in points]
    order = np.argsort(size, kind="stable")
    smallest, middle, largest = (points[order[k]] for k in (0, len(order) // 2, -1))
    return (
        _forecast(config, smallest, rate),
        _forecast(config, middle, rate),
        _forecast(config, largest, rate),
    )


def _has_two_folds(params: Params) -> bool:
    """Return False for a random point that no cross-validation would train."""
    return "test_fold" not in params or params["test_fold"] != params["fold"]


def _forecast(
    config: HpoConfig, params: Params, rate: Rate | None, *, with_data: bool = True
) -> Forecast:
    train = with_params(config.train, params)
    return forecast(train, data_at(train) if with_data else None, rate)


def _warnings(config: HpoConfig, middle: Forecast, largest: Forecast) -> list[str]:
    found = warnings(middle)
    if not found and warnings(largest):
        found = [
            "a training of this search space is forecast to take up to "
            f"{hours(largest.seconds or 0)}: search_space=small suits a workstation"
        ]
    limit_s, name = time_limit_s(config)
    session_s = _session_s(config)
    if middle.seconds is None or not limit_s:
        return found
    if middle.seconds > limit_s:
        found.append(
            f"one training is forecast to take {hours(middle.seconds)}, more than the "
            f"{hours(limit_s)} of {name}, so it would not finish; raise these or train for fewer "
            "limits.epochs"
        )
    elif session_s and middle.seconds > session_s:
        found.append(
            f"one training is forecast to take {hours(middle.seconds)}, more than one job of "
            f"dispatcher.walltime_s={config.dispatcher.walltime_s:g}: it will resume from its "
            f"checkpoint and take {math.ceil(middle.seconds / session_s)} jobs"
        )
    return found


def measured_rate(words: Sequence[str]) -> Rate:
    """Run the command of a trial as a dry run on this machine, and return how fast it was.

    Args:
        words: The command of the trial, its ``run_dir`` included.

    Raises:
        StudyError: If the command fails.
    """
    with tempfile.TemporaryDirectory() as temporary:
        shared = [word for word in words if not word.startswith("run_dir=")]
        command = [*shared, "dry_run=true", f"run_dir={temporary}"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PROBE_S, check=False
            )
            if done.returncode:
                raise StudyError(
                    f"the training could not be measured: {printable(_last(done.stderr), 300)}"
                )
            expected = read_object(RunFolder(Path(temporary)).forecast, MAX_BYTES)
            rate = expected["measured"]
            return Rate(float(rate["training"]), float(rate["validation"]), str(rate["source"]))
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
            raise StudyError(f"the training could not be measured: {error}") from error


def _last(text: str) -> str:
    return text.strip().splitlines()[-1].removeprefix("error: ") if text.strip() else "no message"
