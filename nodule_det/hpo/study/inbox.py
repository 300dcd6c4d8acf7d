"""The queue folder, through which users pass points, results and cancellations to a study.

    hpo.add ─────enqueue()───────┐
    hpo.cancel ──enqueue_cancel()┴▶ STUDY/queue/*.json ──read_queue()──▶ driver ──▶ journal

The driver is the only writer of the journal, so other processes leave a file.  Its name goes into
the journal: a driver that is killed between reading a file and removing it does not use it twice.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodule_det.errors import ConfigError, StudyError
from nodule_det.files import write_json
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.replay import FILE_NAME, MOST, Fields, read_outcome_fields
from nodule_det.untrusted import printable, read_object

MAX_BYTES = 1_000_000
_RESULT = {
    *("state", "value", "value_se", "influence", "reason", "message"),
    *("peak_memory_bytes", "imported_seconds"),
}


@dataclass(frozen=True)
class Entry:
    """One file of the queue."""

    path: Path
    params: Params | None = None
    result: dict[str, Any] | None = None
    """Fields of a ``finished`` record, of a trial that another study has run."""
    cancel: int | None = None
    """Number of a trial to cancel."""
    error: str = ""
    """Why the file cannot be used."""


def enqueue(folder: Path, params: Params, name: str = "") -> Path:
    """Queue a point for the driver.  Points with the same file name are used once."""
    return _leave(folder, {"params": params, "result": None}, name)


def enqueue_result(folder: Path, params: Params, result: dict[str, Any], origin: str) -> Path:
    """Queue a point with its result.  Results of the same origin are used once."""
    return _leave(folder, {"params": params, "result": result}, origin)


def result_origin(study: str, trial: int) -> str:
    """Return the name for the result of a trial of another study, from that study's id."""
    return f"result_{study}_{trial:06d}.json"


def enqueue_cancel(folder: Path, trial: int) -> Path:
    """Queue a request to cancel a trial."""
    return _leave(folder, {"cancel": trial})


def _leave(folder: Path, content: dict[str, Any], name: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{time.time_ns()}_{secrets.token_hex(4)}.json")
    write_json(path, content)
    return path


def read_queue(folder: Path, space: Space, objective: Objective) -> list[Entry]:
    """Read the files of the queue, oldest first.  A bad file does not affect the others.

    Args:
        folder: The queue.
        space: Search space that must contain every point.
        objective: Limits the values of results.
    """
    entries = (_read(path, space, objective) for path in sorted(folder.glob("*.json")))
    return [entry for entry in entries if entry is not None]


def _read(path: Path, space: Space, objective: Objective) -> Entry | None:
    try:
        if not FILE_NAME.fullmatch(path.name):
            raise StudyError("its name may only have letters, digits, . _ -")
        content = read_object(path, MAX_BYTES)
        if "cancel" in content:
            return Entry(path, cancel=Fields(content, objective).whole("cancel", 1, MOST))
        params, result = content.get("params"), content.get("result")
        if not isinstance(params, dict):
            raise StudyError("params must map names to values")
        if result is not None:
            _check_result(result, objective)
        return Entry(path, space.check(params), result)
    except FileNotFoundError:
        return None  # another process has just removed it
    except (ConfigError, StudyError, ValueError) as error:
        text = f"{path} cannot be used: {error}; correct it or remove it"
        return Entry(path, error=printable(text))


def _check_result(result: Any, objective: Objective) -> None:
    if not isinstance(result, dict) or not result.keys() <= _RESULT:
        raise StudyError(f"result may only have the fields {', '.join(sorted(_RESULT))}")
    read_outcome_fields(Fields(result, objective))
