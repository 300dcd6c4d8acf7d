"""Robust reading of ``result.json`` and ``metrics.jsonl`` of any program.

result.json ──read_result()──▶ Result(status, value, influence, message)   or why it cannot be read
metrics.jsonl ──read_curve()──▶ [Observation(epoch, value, se)]

Both are written by a program that may crash, have bugs or run out of disk space.  So nothing in
them ends a study: an impossible number is ignored or makes only that trial fail.  NaN and Infinity,
which many programs write, are read as such: as the objective they mean that it diverged, and
elsewhere nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from nodule_det.hpo.study.objective import LARGEST, Objective
from nodule_det.hpo.study.replay import MOST, MOST_BYTES, legal_influence
from nodule_det.hpo.study.trial import Observation
from nodule_det.progress import counted
from nodule_det.runs import RunFolder, RunStatus
from nodule_det.untrusted import parse_object, printable, read_bytes, read_object

MAX_RESULT_BYTES = 16_000_000
MAX_METRICS_BYTES = 256_000_000


@dataclass(frozen=True, kw_only=True)
class Result:
    """Content of ``result.json``."""

    status: RunStatus
    reason: str | None
    """Why it stopped or failed."""
    message: str | None
    """Its error in one line."""
    value: float | None
    """The objective as reported; None if it is missing or impossible."""
    value_se: float | None
    """Standard error of ``value``."""
    influence: dict[str, float] | None
    """How much each validation case pulls the value; None if it is missing or impossible."""
    found: str
    """The reported value as in the file, for messages."""
    diverged: bool
    """Whether the reported value is NaN, infinite, or too large to be used."""
    violation: str
    """Which constraint it violates; "" if none."""
    lacks: str
    """Which number of a constraint is missing or impossible; "" if none."""
    peak_memory_bytes: int | None
    """Peak memory, of the GPU if it used one."""
    progress: str | None
    """How far it got: its step, and the scans of an unfinished validation; None if not reported."""


def read_result(run_dir: Path, objective: Objective) -> tuple[Result | None, str]:
    """Read ``result.json`` of a run folder.

    Returns:
        The result and "", None and "" if there is no such file, or None and why it cannot be read.

    Raises:
        OSError: If the file system fails in a way that may be transient.
    """
    path = RunFolder(run_dir).result
    try:
        content = read_object(path, MAX_RESULT_BYTES, number=float)
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, printable(str(error))
    status = content.get("status")
    if not isinstance(status, str) or status not in set(RunStatus):
        states = ", ".join(RunStatus)
        return None, printable(f'{path} has "status": {status} but expected one of {states}')
    raw = find_value(content, objective.name)
    violation, lacks = _check_constraints(content, objective)
    return (
        Result(
            status=RunStatus(status),
            reason=_text(content.get("reason")),
            message=_text(content.get("message")),
            value=legal_value(raw, objective),
            value_se=_legal_se(find_value(content, f"{objective.name}_se"), objective),
            influence=legal_influence(
                find_value(content, f"{objective.name}_influence"), objective
            ),
            found=_shown(raw),
            diverged=_is_number(raw) and not _is_finite(raw),
            violation=violation,
            lacks=lacks,
            peak_memory_bytes=_bytes(content.get("peak_gpu_memory_bytes"))
            or _bytes(content.get("peak_memory_bytes")),
            progress=_progress(content),
        ),
        "",
    )


def _check_constraints(content: Mapping[str, Any], objective: Objective) -> tuple[str, str]:
    """Return which constraints are violated, and which numbers for them are missing."""
    violated, missing = [], []
    for constraint in objective.constraints:
        number = find_value(content, constraint.name)
        if not _is_finite(number):
            missing.append(f"{constraint.name}={_shown(number)}")
        elif text := constraint.violation(number):
            violated.append(text)
    return "; ".join(violated), ", ".join(missing)


def _shown(value: Any) -> str:
    return printable(json.dumps(value, ensure_ascii=False)[:200], 60)


def _is_finite(value: Any) -> TypeGuard[float]:
    return _is_number(value) and abs(value) <= LARGEST  # not NaN either


def find_value(content: Mapping[str, Any], name: str) -> Any:
    """Return the value of a key, or of a path of keys joined by dots.

    Example:
        >>> find_value({"val": {"loss": 0.5}}, "val.loss")
        0.5
    """
    if name in content:
        return content[name]
    head, dot, rest = name.partition(".")
    below = content.get(head)
    return find_value(below, rest) if dot and isinstance(below, dict) else None


def legal_value(value: Any, objective: Objective) -> float | None:
    """Return the value if the objective can have it; None for anything else."""
    low, high = objective.bounds
    return float(value) if _is_number(value) and low <= value <= high else None


def _legal_se(value: Any, objective: Objective) -> float | None:
    return float(value) if _is_number(value) and 0 <= value <= objective.largest_se else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _progress(content: Mapping[str, Any]) -> str | None:
    step, scans = content.get("step"), content.get("n_scans_validated")
    if not _is_number(step):
        return None
    return printable(
        f"step {step}" + (f", {counted(scans, 'scan')} validated" if scans else ""), 200
    )


def _text(value: Any) -> str | None:
    return printable(value) if isinstance(value, str) else None


def _bytes(value: Any) -> int | None:
    return int(value) if _is_number(value) and 0 < value <= MOST_BYTES else None


def read_curve(run_dir: Path, objective: Objective) -> list[Observation]:
    """Read the validations so far, with values as reported.  Impossible lines are skipped.

    Raises:
        OSError: If the file system fails in a way that may be transient.
    """
    try:
        content = read_bytes(RunFolder(run_dir).metrics, MAX_METRICS_BYTES)
    except (FileNotFoundError, ValueError):
        return []
    rows = (_observation(line, objective) for line in content.split(b"\n"))
    return [row for row in rows if row is not None]


def _observation(line: bytes, objective: Objective) -> Observation | None:
    if b"validation" not in line:
        return None
    try:
        row = parse_object(line, number=float)
    except ValueError:  # truncated by a crash, for example
        return None
    epoch, value = row.get("epoch"), legal_value(find_value(row, objective.name), objective)
    if row.get("kind") != "validation" or value is None or not _is_number(epoch):
        return None
    if not 0 <= epoch <= MOST or epoch != math.floor(epoch):
        return None
    return Observation(
        int(epoch), value, _legal_se(find_value(row, f"{objective.name}_se"), objective)
    )
