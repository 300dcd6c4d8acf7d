"""One thing that an audit noticed, and the rows it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from nodule_det.froc import Candidates, Lesions

SHOWN = 10
"""Rows that are listed one by one."""


class Level(StrEnum):
    """How much a finding matters."""

    WARNING = "warning"
    """The figures are probably not the intended ones."""
    NOTE = "note"


@dataclass(frozen=True)
class AuditFinding:
    """One thing that was noticed.

    Attributes:
        level: How much it matters.
        code: A word for programs, which never changes.
        message: The evidence with its numbers, and the remedy.
        rows: The scans, lesions or candidates it is about, the worst first.
    """

    level: Level
    code: str
    message: str
    rows: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "rows": list(self.rows)}


def case_rows(cases: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Return the first scans as rows of a finding."""
    return tuple({"case": str(case)} for case in list(cases)[:SHOWN])


def lesion_row(lesions: Lesions, row: int) -> dict[str, Any]:
    """Return a lesion as a row of a finding."""
    diameter = float(lesions.diameter_mm[row])
    return {
        "case": str(lesions.case[row]),
        "world_mm": lesions.world_mm[row].tolist(),
        "diameter_mm": diameter if np.isfinite(diameter) else None,
    }


def candidate_row(candidates: Candidates, row: int) -> dict[str, Any]:
    """Return a candidate as a row of a finding."""
    score = float(candidates.score[row])
    return {
        "case": str(candidates.case[row]),
        "world_mm": candidates.world_mm[row].tolist(),
        "score": score if np.isfinite(score) else None,
        "row": int(row),
    }
