"""A trial as a training: params become a command line and a job folder, files become an outcome.

    params ──write_job()──▶ job.sh ──job──▶ result.json, exit_code ──read_outcome()──▶ Outcome

This is the only place that knows what a training looks like from outside; hpo never imports it.
"""

from __future__ import annotations

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nodule_det.config.fields import settings
from nodule_det.config.hpo import DispatcherConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, ExitCode
from nodule_det.files import read_jsonl, write_text
from nodule_det.hpo.dispatch.base import (
    Exit,
    Job,
    killed_for_memory,
    last_words,
    read_claim,
    read_exit,
)
from nodule_det.hpo.space.space import Kind, Parameter, Params, Space, Value
from nodule_det.hpo.study.trial import Observation, Reason
from nodule_det.runs import RunFolder, RunResult, RunStatus

TRAIN_COMMAND = ("-m", "nodule_det.train")
CHECKED_POINTS = 200
"""Random points of a space that are tried on the train settings before anything is submitted."""

Config = TypeVar("Config")


def overrides(config: object, default: object, prefix: str = "") -> list[str]:
    """List the settings in which a config differs from another of its class, as overrides."""
    found: list[str] = []
    for f in fields(config):  # type: ignore[arg-type]
        value, usual = getattr(config, f.name), getattr(default, f.name)
        if is_dataclass(value):
            found += overrides(value, usual, f"{prefix}{f.name}.")
        elif value != usual:
            found.append(as_override(f"{prefix}{f.name}", value))
    return found


def as_override(name: str, value: object) -> str:
    """Write ``name=value`` the way Hydra reads it back as the same value and type.

    Example:
        >>> as_override("optim.lr", 0.0003), as_override("model.residual", True)
        ('optim.lr=0.0003', 'model.residual=true')
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return f"{name}={'null' if value is None else str(value).lower()}"
    if isinstance(value, float):
        return f"{name}={value!r}"
    return f"{name}={_quoted(value) if isinstance(value, str) else value}"


_BARE = re.compile(r"(\.{1,2}/)?[A-Za-z_/][\w/.@%+-]*", re.ASCII)
"""Strings that Hydra reads back without quotes, but for :data:`_WORDS`."""
_WORDS = frozenset({"true", "false", "null", "inf", "nan"})
"""What Hydra reads as a value of another type, in capitals as well."""


def _quoted(text: str) -> str:
    """Quote a string where Hydra would read something else.

    Backslashes count only before a quote, the end, or an interpolation; elsewhere they are plain.
    """
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def check_space(space: Space, train: TrainConfig, seed: int = 0) -> None:
    """Try a search space on the settings of the train command, before anything is submitted.

    Every name must be a setting; the first points, the corners of each parameter, and many random
    points must be accepted by the checks of the settings.

    Raises:
        ConfigError: If a name or a point is refused.
    """
    known = [name for name, _ in settings(TrainConfig) if name != "run_dir"]  # each has its own
    for parameter in space:
        if parameter.name not in known:
            raise ConfigError(
                f"the search space has {parameter.name}, which is no setting of the train "
                f"command; its settings are: {', '.join(known)}"
            )
    rng = np.random.default_rng(seed)
    middle = np.full(space.dimension, 0.5)
    corners = [
        np.where(np.arange(space.dimension) == i, end, middle)
        for i in range(space.dimension)
        for end in (0.0, 1.0)
    ]
    points = [*space.first, *map(space.from_unit, corners)]
    points += [space.sample(rng) for _ in range(CHECKED_POINTS)]
    for params in points:
        try:
            with_params(train, params)
        except ConfigError as error:
            raise ConfigError(
                f"the search space allows {shlex.join(_words(params))}, "
                f"which the train command refuses: {error}"
            ) from None


def with_params(config: Config, params: Mapping[str, Value]) -> Config:
    """Return a config with some settings changed, checked anew.

    Raises:
        ConfigError: If a setting does not exist, has the wrong type, or is refused.
    """
    here = {name: value for name, value in params.items() if "." not in name}
    below: dict[str, dict[str, Value]] = {}
    for name, value in params.items():
        head, dot, rest = name.partition(".")
        if dot:
            below.setdefault(head, {})[rest] = value
    changes: dict[str, Any] = {name: _as_type_of(config, name, v) for name, v in here.items()}
    for head, inner in below.items():
        changes[head] = with_params(getattr(config, head), inner)
    return replace(config, **changes)  # type: ignore[type-var]


def _as_type_of(config: object, name: str, value: Value) -> Any:
    old = getattr(config, name)
    if isinstance(old, Enum):
        return type(old)(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(old) is not type(value):
        raise ConfigError(f"{name}={value} must be of type {type(old).__name__}")
    return value


def _words(params: Params) -> list[str]:
    return [as_override(name, value) for name, value in params.items()]


def command_words(
    command: Sequence[str],
    train: Sequence[str],
    params: Params,
    run_dir: Path,
    config: DispatcherConfig,
) -> list[str]:
    """Return the words of the command that runs a trial; pasted into a shell, it runs it again.

    Args:
        command: Another training command, or empty for ours.
        train: Overrides shared by all trials.
        params: Values of the trial.
        run_dir: The trial's folder.
        config: Python, container and wall-clock limit of a job.
    """
    ours = [config.python or sys.executable, *TRAIN_COMMAND]
    words = [*shlex.split(config.container), *(command or ours), *train]
    if config.walltime_s and not any(w.startswith("limits.wall_s=") for w in train):
        words.append(f"limits.wall_s={config.walltime_s - config.walltime_margin_s!r}")
    return [*words, *_words(params), f"run_dir={run_dir}"]


def write_job(job: Job, words: Sequence[str], config: DispatcherConfig, workdir: Path) -> None:
    """Write the folder that ``submit_pbs.sh`` runs; writing it again changes nothing."""
    job.folder.mkdir(parents=True, exist_ok=True)
    write_text(job.folder.parent / "overrides.txt", "\n".join(w for w in words if "=" in w) + "\n")
    write_text(job.script, job_script_text(words, config, workdir))


def read_params(run_dir: Path, space: Space) -> Params:
    """Read the point of a trial from its folder, as :func:`write_job` left it there.

    Raises:
        OSError: If the folder holds none.
        ConfigError, ValueError: If it is no point of the space.
    """
    lines = (run_dir / "overrides.txt").read_text(encoding="utf-8").splitlines()
    texts = dict(line.split("=", 1) for line in lines if "=" in line)  # of equal names the last
    params: Params = {}
    for p in space:
        if p.name in texts and p.kind is not Kind.FIXED:
            params[p.name] = _value_of(p, texts[p.name], params)
    return space.check(params)


def _value_of(p: Parameter, text: str, params: Params) -> Value:
    """Undo :func:`as_override`, whose word tells every value of a list from the others."""
    if p.kind is Kind.FLOAT:
        return float(text)
    for value in p.choices(params) or ():
        if as_override(p.name, value) == f"{p.name}={text}":
            return value
    raise ConfigError(f"{p.name}={text} is not in the search space")


def job_script_text(words: Sequence[str], config: DispatcherConfig, workdir: Path) -> str:
    """Write the lines that a job runs."""
    exports = [f"export {k}={shlex.quote(v)}" for k, v in sorted(config.environment.items())]
    lines = [f"cd {shlex.quote(str(workdir))} || exit 2", *config.setup, *exports]
    return "\n".join([*lines, f"exec {shlex.join(words)}"]) + "\n"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a job that is over came to."""

    reason: Reason | None
    """None if the training is complete; STOPPED if it wants to go on."""
    value: float | None = None
    value_se: float | None = None
    message: str | None = None
    peak_memory_bytes: int | None = None
    started_s: float | None = None
    ended_s: float | None = None


def read_outcome(run_dir: Path, attempt_dir: Path, comment: str = "") -> Outcome:
    """Read what became of a job that is over, from the files that it left.

    The exit code tells how this job ended; without one (it was killed as a whole) the training's
    own last word counts.  A finished result always counts.  Of a job or a training that was killed,
    or told to end and saved a checkpoint, the batch system may say that it was for its memory.

    Args:
        run_dir: Of the training.
        attempt_dir: Of the job.
        comment: What the batch system said of the job once it was gone.
    """
    claim, exit_ = read_claim(attempt_dir), read_exit(attempt_dir)
    started_s = claim.started_s if claim else None
    result = _read_result(run_dir)
    if claim is None and result is not None and result.status is not RunStatus.COMPLETE:
        result = None  # of an earlier job: this one never began
    reason, message = _reason(result, exit_)
    if reason in (Reason.LOST, Reason.KILLED, Reason.STOPPED) and (
        words := killed_for_memory(attempt_dir, comment)
    ):
        reason, message = Reason.OUT_OF_MEMORY, f"killed by the batch system: {words}"
    elif reason is Reason.KILLED and (words := last_words(attempt_dir)):
        message = f"{message}: {words}"
    value = value_se = None
    if reason is None and result is not None:
        value, value_se = result.pauc, result.pauc_se
        if value is None or not math.isfinite(value):
            reason, message = Reason.ERROR, f"result.json is complete, but has pauc={value}"
            value = value_se = None
        elif value_se is not None and not math.isfinite(value_se):
            value_se = None
    return Outcome(
        reason=reason,
        value=value,
        value_se=value_se,
        message=message,
        peak_memory_bytes=_peak(result),
        started_s=started_s,
        ended_s=exit_.ended_s if exit_ else None,
    )


def _peak(result: RunResult | None) -> int | None:
    if result is None:
        return None
    return result.peak_gpu_memory_bytes or result.peak_memory_bytes


def _reason(result: RunResult | None, exit_: Exit | None) -> tuple[Reason | None, str | None]:
    if result is not None and result.status is RunStatus.COMPLETE:
        return None, None
    message = result.message if result is not None else None
    if exit_ is None:
        if result is not None and result.status is RunStatus.STOPPED:
            return Reason.STOPPED, message
        if result is not None and result.status is RunStatus.FAILED:
            return Reason.of(ExitCode.of(result.reason)) or Reason.ERROR, message
        return Reason.LOST, "the job vanished without a result"
    if reason := Reason.of(exit_.code):
        return reason, message
    if exit_.code > 128:  # a shell's way to say: killed by signal code - 128
        return Reason.KILLED, f"killed by signal {exit_.code - 128}"
    if exit_.code == ExitCode.COMPLETE:
        return Reason.ERROR, "the training left with exit code 0, but without a complete result"
    return Reason.ERROR, message or f"exit code {exit_.code}; see job.log in the attempt's folder"


def _read_result(run_dir: Path) -> RunResult | None:
    try:
        return RunResult.from_json(RunFolder(run_dir).result.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # not ours to repair; without a result the exit code speaks
        return None


def put_away_failure(run_dir: Path, attempt_dir: Path) -> None:
    """Move the result of a failed attempt out of the way of the next one."""
    result = _read_result(run_dir)
    if result is not None and result.status is RunStatus.FAILED:
        RunFolder(run_dir).result.rename(attempt_dir / "result.json")


def read_curve(run_dir: Path) -> list[Observation]:
    """Read the validations of a training so far; a number that is none is left out."""
    curve = []
    for row in read_jsonl(RunFolder(run_dir).metrics):
        epoch, pauc = row.get("epoch"), _finite(row.get("pauc"))
        if row.get("kind") == "validation" and isinstance(epoch, int) and pauc is not None:
            curve.append(Observation(epoch, pauc, _finite(row.get("pauc_se"))))
    return curve


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
