"""What people hand to a study, without writing to its journal: points, results, cancellations.

    hpo.add ─────enqueue()───────┐
    hpo.cancel ──enqueue_cancel()┴▶ STUDY/queue/*.json ──read_queue()──▶ driver ──▶ journal

The journal has one writer, the driver; others leave a file.  Its name goes into the journal, so a
driver killed between taking a file in and removing it does not take it in twice.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodule_det.errors import ConfigError
from nodule_det.files import write_json
from nodule_det.hpo.space.space import Params, Space


@dataclass(frozen=True)
class Entry:
    """One file of the queue."""

    path: Path
    params: Params | None = None
    result: dict[str, Any] | None = None
    """Fields of a ``finished`` record, of a trial that was run elsewhere."""
    cancel: int | None = None
    """Number of a trial that is to be given up."""
    error: str = ""
    """Why it cannot be taken."""


def enqueue(folder: Path, params: Params) -> Path:
    """Leave a point for the driver."""
    return _leave(folder, {"params": params, "result": None})


def enqueue_result(folder: Path, params: Params, result: dict[str, Any], origin: str) -> Path:
    """Leave a point with its result; one of the same origin is taken once, however often left."""
    return _leave(folder, {"params": params, "result": result}, origin)


def result_origin(study: str, trial: int) -> str:
    """Name the result of a trial of another study, by its id."""
    return f"result_{study}_{trial:06d}.json"


def enqueue_cancel(folder: Path, trial: int) -> Path:
    """Leave the wish that a trial be given up."""
    return _leave(folder, {"cancel": trial})


def _leave(folder: Path, content: dict[str, Any], name: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{time.time_ns()}_{secrets.token_hex(4)}.json")
    write_json(path, content)
    return path


def read_queue(folder: Path, space: Space) -> list[Entry]:
    """Read what was left, oldest first."""
    entries = (_read(path, space) for path in sorted(folder.glob("*.json")))
    return [entry for entry in entries if entry is not None]


def _read(path: Path, space: Space) -> Entry | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "cancel" in content:
            return Entry(path, cancel=int(content["cancel"]))
        return Entry(path, space.check(content["params"]), content["result"])
    except FileNotFoundError:
        return None  # somebody has just removed it
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        return Entry(path, error=f"{path} cannot be taken: {error}; correct or remove it")
