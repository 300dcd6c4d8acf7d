"""The command line and the job folder of a trial.

    params ──command_words()──▶ arguments ──write_job()──▶ job.sh, overrides.txt
    overrides.txt ──read_params()──▶ params

A trial is a list of overrides: its command can be pasted into a shell to run it again.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.errors import ConfigError
from nodule_det.files import write_text
from nodule_det.hpo.dispatch.base import Job
from nodule_det.hpo.space.space import Kind, Parameter, Params, Space, Value
from nodule_det.untrusted import read_text

TRAIN_COMMAND = ("-m", "nodule_det.train")
LAUNCH_COMMAND = ("-m", "nodule_det.train.launch")
"""Followed by the number of processes that share one training."""

MAX_OVERRIDES_BYTES = 1_000_000


def overrides(config: object, default: object, prefix: str = "") -> list[str]:
    """List the settings that differ between two configs of the same class, as overrides."""
    found: list[str] = []
    for f in fields(config):  # type: ignore[arg-type]
        value, usual = getattr(config, f.name), getattr(default, f.name)
        if is_dataclass(value):
            found += overrides(value, usual, f"{prefix}{f.name}.")
        elif value != usual:
            found.append(as_override(f"{prefix}{f.name}", value))
    return found


def as_override(name: str, value: object) -> str:
    """Format ``name=value`` so that Hydra reads back the same value and type.

    Example:
        >>> as_override("optim.lr", 0.0003), as_override("model.residual", True)
        ('optim.lr=0.0003', 'model.residual=true')
        >>> as_override("model.kwargs", {"spatial_dims": 3, "strides": [1, 2]})
        'model.kwargs={spatial_dims:3,strides:[1,2]}'
    """
    return f"{name}={_word(value)}"


def _word(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_word(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value)


_BARE = re.compile(r"(\.{1,2}/)?[A-Za-z_/][\w/.@%+-]*", re.ASCII)
"""Strings that Hydra reads back without quotes, except :data:`_WORDS`."""
_WORDS = frozenset({"true", "false", "null", "inf", "nan"})
"""Strings that Hydra reads as a value of another type, in upper case as well."""


def _quoted(text: str) -> str:
    """Quote a string that Hydra would otherwise read as something else.

    Backslashes are special only before a quote, the end, or an interpolation.
    """
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text) + "'"


def override_words(params: Params) -> list[str]:
    """Return the overrides of a trial."""
    return [as_override(name, value) for name, value in params.items()]


def command_words(
    command: Sequence[str],
    train: Sequence[str],
    params: Params,
    run_dir: Path,
    config: DispatcherConfig,
) -> list[str]:
    """Return the arguments of the command that runs a trial.

    Args:
        command: Another training command, or empty for ours.
        train: Overrides shared by all trials.
        params: Values of the trial.
        run_dir: The trial's folder.
        config: Python, container and wall-clock limit of a job.
    """
    processes = config.processes_per_job
    start = TRAIN_COMMAND if processes == 1 else (*LAUNCH_COMMAND, str(processes))
    ours = [config.python or sys.executable, *start]
    words = [*shlex.split(config.container), *(command or ours), *train]
    if config.walltime_s and not any(w.startswith("limits.wall_s=") for w in train):
        words.append(f"limits.wall_s={config.walltime_s - config.walltime_margin_s!r}")
    # another program may not know Hydra's quotes
    folder = f"run_dir={run_dir}" if command else as_override("run_dir", str(run_dir))
    return [*words, *override_words(params), folder]


def write_job(job: Job, words: Sequence[str], config: DispatcherConfig, workdir: Path) -> None:
    """Write the folder that ``submit_pbs.sh`` runs.  Writing it again changes nothing."""
    job.folder.mkdir(parents=True, exist_ok=True)
    write_text(job.folder.parent / "overrides.txt", "\n".join(w for w in words if "=" in w) + "\n")
    write_text(job.script, job_script_text(words, config, workdir))


def read_params(run_dir: Path, space: Space) -> Params:
    """Read the point of a trial from the folder that :func:`write_job` wrote.

    Raises:
        OSError: If the folder does not have one.
        ConfigError, ValueError: If it is not a point of the space.
    """
    lines = read_text(run_dir / "overrides.txt", MAX_OVERRIDES_BYTES).splitlines()
    texts = dict(line.split("=", 1) for line in lines if "=" in line)  # the last of equal names
    params: Params = {}
    for p in space:
        if p.name in texts and p.kind is not Kind.FIXED:
            params[p.name] = _value_of(p, texts[p.name], params)
    return space.check(params)


def _value_of(p: Parameter, text: str, params: Params) -> Value:
    """Undo :func:`as_override`, whose text differs for all values of a list."""
    if p.kind in (Kind.FLOAT, Kind.INT):
        return text  # converted to a number by the check of the space
    for value in p.choices(params) or ():
        if as_override(p.name, value) == f"{p.name}={text}":
            return value
    raise ConfigError(f"{p.name}={text} is not in the search space")


_CHECKED = (
    "setup_failed() {",
    "    local code=$? line",
    "    [ ${#BASH_SOURCE[@]} -le 2 ] || return 0 # in a script that the settings source",
    '    line=$(sed -n "${BASH_LINENO[0]}p" "${BASH_SOURCE[1]}")',
    '    echo "error: dispatcher.setup failed with exit code $code at: $line" >&2',
    "    exit 2",
    "}",
    "trap setup_failed ERR",
)
"""Like ``set -e``, but only for the lines of the setting: the scripts that they source, such as
those of modules and conda, do not work with it."""


def job_script_text(words: Sequence[str], config: DispatcherConfig, workdir: Path) -> str:
    """Return the lines that a job runs."""
    folder = shlex.quote(str(workdir))
    lines = [f"cd {folder} || {{ echo 'error: cannot enter' {folder} >&2; exit 2; }}"]
    if config.setup:
        lines += [*_CHECKED, *config.setup, "trap - ERR"]
    lines += [f"export {k}={shlex.quote(v)}" for k, v in sorted(config.environment.items())]
    return "\n".join([*lines, f"exec {shlex.join(words)}"]) + "\n"
