"""The run folder, used by one process at a time and never with other settings.

RunFolder ──held()──▶ locked ──refuse_other_settings()──▶ ──describe(), logging_to()──▶ a run
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import yaml

from nodule_det.config.fields import as_plain
from nodule_det.config.files import saved_settings
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.files import FULL_DISK, read_jsonl, write_json, write_text
from nodule_det.locking import Lock
from nodule_det.runs import RunFolder, RunResult
from nodule_det.train.provenance import command_line
from nodule_det.untrusted import printable, read_text

FREE_SETTINGS = (
    "run_dir",
    "shared",
    "dry_run",
    "device",
    "tracker",
    "tracker_uri",
    "feed.memory_gb",
    "feed.threads",
    "gpu.cuda_graph",
    "validation.slab_gb",
    "limits.wall_s",
    "limits.checkpoint_s",
)
"""Settings that may change when a run is resumed: they decide where and how long it runs, not what
it computes."""

MAX_RESULT_BYTES = 4_000_000

LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """Lock a run folder until the block ends.

    Raises:
        BusyError: If another process holds it.
        ConfigError: If the folder cannot be created or written.
    """
    with ExitStack() as stack:
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                Lock(folder.path / ".lock", f"run_dir={folder.path} is in use by another training")
            )
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise ConfigError(
                f"run_dir={folder.path} cannot be written ({error.strerror}); use another one"
            ) from error
        yield


def refuse_other_settings(folder: RunFolder, config: TrainConfig) -> None:
    """Refuse to resume a run that was started with other settings.

    Raises:
        ConfigError: If a setting differs, or ``config.yaml`` is damaged.
    """
    if not folder.config.exists():
        return
    # defaults for settings that an older version did not have
    was = flat(as_plain(TrainConfig())) | flat(saved_settings(folder.config))
    now = flat(as_plain(config))
    for name in sorted(was.keys() | now.keys()):
        if name not in FREE_SETTINGS and was.get(name) != now.get(name):
            raise ConfigError(
                f"run_dir={folder.path} holds a run with {name}="
                f"{printable(str(was.get(name)), 200)} but {name}={now.get(name)} was requested; "
                f"use another run_dir, or the settings of {folder.config}"
            )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names.

    Example:
        >>> flat({"seed": 1, "optim": {"lr": 0.1}})
        {'seed': 1, 'optim.lr': 0.1}
    """
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def earlier_result(folder: RunFolder) -> RunResult | None:
    """Read the outcome of earlier sessions; None if there were none.

    Raises:
        ConfigError: If ``result.json`` is damaged.
    """
    try:
        return RunResult.from_json(read_text(folder.result, MAX_RESULT_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder.result} is damaged ({printable(str(error), 300)}); delete it and run the "
            "same command again, which resumes the run"
        ) from error


def describe(folder: RunFolder, config: TrainConfig, environment: dict[str, Any]) -> None:
    """Write the settings, the command and the environment of a run."""
    write_text(folder.config, yaml.safe_dump(as_plain(config), sort_keys=False))
    write_text(folder.command, command_line() + "\n")
    write_json(folder.environment, environment)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors: a full disk is reported once, when the checkpoint cannot be written."""


@contextmanager
def logging_to(folder: RunFolder, log: logging.Logger) -> Iterator[None]:
    """Send a logger to ``train.log`` for one run: ``--multirun`` does several in a process.

    Raises:
        ConfigError: If ``train.log`` is not a regular file: opening a FIFO would block.
    """
    if folder.log.exists() and not folder.log.is_file():
        raise ConfigError(f"{folder.log} is not a regular file; delete it or use another run_dir")
    handler = _LogFile(folder.log, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.setLevel(before[0])
        log.propagate = before[1]
        log.removeHandler(handler)
        handler.close()


def cut_metrics(folder: RunFolder, *, step: int, validated: int) -> None:
    """Remove the lines of steps and validations that will be repeated.

    Args:
        folder: Folder of a run that is resumed from a checkpoint.
        step: Optimiser steps done.
        validated: Epoch of the last complete validation.

    Raises:
        ConfigError: If ``metrics.jsonl`` is not a regular file.
    """
    try:
        rows = [row for row in read_jsonl(folder.metrics) if _is_done(row, step, validated)]
    except ValueError as error:
        raise ConfigError(f"{error}; delete it and run the same command again") from None
    write_text(folder.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def _is_done(row: dict[str, Any], step: int, validated: int) -> bool:
    """Return whether a line of metrics is from before the checkpoint; a damaged line is not."""
    name, limit = ("epoch", validated) if row.get("kind") == "validation" else ("step", step)
    at = row.get(name)
    return isinstance(at, int | float) and at <= limit
