"""What the trainings of a study will take: at its start, and in a dry run.

search space, complete trials ──study_lines()──▶ steps, views, memory, hours
command of a trial ──measured_rate()──▶ Rate   (a dry run of the train command)
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nodule_det.config.hpo import DispatcherKind, HpoConfig
from nodule_det.errors import StudyError
from nodule_det.forecast.forecast import (
    Forecast,
    Rate,
    data_at,
    forecast,
    hours,
    lines,
    nominal_rate,
    warnings,
)
from nodule_det.hpo.driver.limits import time_limit_s
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.trial import Trial, TrialState
from nodule_det.hpo.training.check import with_params
from nodule_det.runs import RunFolder
from nodule_det.untrusted import printable, read_object

POINTS = 101
"""Points of the space whose trainings are forecast."""
SAME = 1.5
"""The largest training is only mentioned if it takes this many times the middle one."""
PROBE_S = 600.0
"""Longest time for a dry run of the train command."""
MAX_BYTES = 100_000


def study_lines(
    config: HpoConfig, space: Space, trials: Sequence[Trial], rate: Rate | None = None
) -> list[str]:
    """Say what the trainings of a study will take; warnings come last.

    Args:
        config: The study.
        space: Its search space.
        trials: Its trials so far, the complete ones of which show how fast they ran.
        rate: A measured rate, which is preferred.
    """
    if config.command:
        return []
    known = rate or rate_of(config, trials)
    if known is None and config.dispatcher.kind is DispatcherKind.local:
        known = nominal_rate(config.train, config.dispatcher.cpus_per_job)
    middle, largest = _typical(config, space, known)
    n = max(0, config.trials - sum(not t.pending for t in trials))
    expected = [f"a training: {lines(middle)[0]}", lines(middle)[1]]
    if middle.seconds is not None and largest.seconds is not None:
        if largest.seconds > SAME * middle.seconds:
            expected.append(f"the longest of this search space: {hours(largest.seconds)}")
        total = n * middle.seconds / min(config.workers, max(1, n))
        expected.append(f"{n} trainings, {config.workers} at a time: about {hours(total)}")
    return [*expected, *(f"warning: {line}" for line in _warnings(config, middle, largest))]


def rate_of(config: HpoConfig, trials: Sequence[Trial]) -> Rate | None:
    """Return how fast the complete trainings of a study ran; None if there is none."""
    rates = []
    for trial in trials:
        if trial.state is TrialState.COMPLETE and trial.seconds > 0:
            expected = _forecast(config, trial.params, None)
            rates.append(expected.operations / trial.seconds)
    if not rates:
        return None
    per_s = float(np.median(rates))
    return Rate(per_s, per_s, f"as fast as the {len(rates)} complete trainings of this study")


def _typical(config: HpoConfig, space: Space, rate: Rate | None) -> tuple[Forecast, Forecast]:
    """Return the forecast of the middle one and of the largest of random points."""
    rng = np.random.default_rng(0)
    points = [p for p in (space.sample_prior(rng) for _ in range(POINTS)) if _has_two_folds(p)]
    size = [_forecast(config, point, None, with_data=False).operations for point in points]
    order = np.argsort(size, kind="stable")
    middle, largest = points[order[len(order) // 2]], points[order[-1]]
    return _forecast(config, middle, rate), _forecast(config, largest, rate)


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
    if limit_s and middle.seconds is not None and middle.seconds > limit_s:
        found.append(
            f"one training is forecast to take {hours(middle.seconds)}, more than the "
            f"{hours(limit_s)} of {name}, so it would not finish; raise these or train for fewer "
            "limits.epochs"
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
