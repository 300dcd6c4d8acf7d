"""A run folder: its file names and its result.

A training run is a folder.  ``result.json`` in it is the whole contract between a training and
whatever started it (a person, a job script, the tuning driver):

    train ──▶ run_dir/result.json ──▶ hpo
    train ──▶ run_dir/metrics.jsonl ──▶ hpo (early stopping), report

Both are plain JSON; this module needs nothing but the standard library.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

RESULT_SCHEMA = 1


class RunStatus(StrEnum):
    """Where a run stands; the value is the word in ``result.json``."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(kw_only=True)
class RunResult:
    """What a training run came to: the content of ``result.json``.

    ``pauc`` and its standard error belong to the weights of ``checkpoint_best``; both are None
    until the first validation.
    """

    status: RunStatus
    reason: str | None = None
    """Why it stopped (sigterm, sigint, wall_clock) or failed (``ExitCode.reason``)."""
    message: str | None = None
    """The error in one line."""
    pauc: float | None = None
    """Partial area under the FROC curve, [0, 1], of the best validation."""
    pauc_se: float | None = None
    """Its standard error over resampled validation cases."""
    pauc_interval: tuple[float, float] | None = None
    """95 % interval of ``pauc``."""
    cpm: float | None = None
    step: int = 0
    """Optimiser steps done."""
    best_step: int | None = None
    seconds: float = 0.0
    """Wall-clock time over all sessions of the run."""
    peak_memory_bytes: int | None = None
    """Largest resident memory of the process."""
    peak_gpu_memory_bytes: int | None = None
    n_parameters: int | None = None
    n_validation_scans: int | None = None
    n_validation_lesions: int | None = None
    n_candidates_dropped: int | None = None
    """Candidates of the best validation that ``candidates.max_per_scan`` left out."""
    schema: int = RESULT_SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> RunResult:
        """Read what :func:`write_json` wrote; unknown keys are kept in ``extra``.

        Raises:
            ValueError: If the text is not JSON, or has no known ``status``.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or "status" not in values:
            raise ValueError("a result.json is one JSON object with a status")
        known = {f.name for f in fields(cls)}
        extra = {**values.get("extra", {}), **{k: v for k, v in values.items() if k not in known}}
        kept = {k: v for k, v in values.items() if k in known and k != "extra"}
        kept["status"] = RunStatus(kept["status"])
        if kept.get("pauc_interval") is not None:
            low, high = kept["pauc_interval"]
            kept["pauc_interval"] = (float(low), float(high))
        return cls(**kept, extra=extra)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for :func:`write_json`."""
        return asdict(self)


class RunFolder:
    """Owns every file name of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    config = property(lambda self: self.path / "config.yaml")
    command = property(lambda self: self.path / "command.txt")
    environment = property(lambda self: self.path / "environment.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    log = property(lambda self: self.path / "train.log")
    checkpoint_last = property(lambda self: self.path / "last.pt")
    checkpoint_best = property(lambda self: self.path / "best.pt")
    candidates = property(lambda self: self.path / "candidates.csv")
    annotations = property(lambda self: self.path / "annotations.csv")
    excluded = property(lambda self: self.path / "annotations_excluded.csv")
    scans = property(lambda self: self.path / "scans.csv")
    froc = property(lambda self: self.path / "froc.json")
    result = property(lambda self: self.path / "result.json")
    curve_figure = property(lambda self: self.path / "froc.png")
    findings_figure = property(lambda self: self.path / "findings.png")

    @property
    def test(self) -> RunFolder:
        """Tables and figures of the test fold, named as those of the validation."""
        return RunFolder(self.path / "test")


def new_run_dir(root: Path) -> Path:
    """Create and return a folder of its own below ``root``, named by date and time.

    Two runs that start in the same second get two folders: the name is claimed by ``mkdir``.
    """
    stem = time.strftime("%Y-%m-%d_%H-%M-%S")
    root.mkdir(parents=True, exist_ok=True)
    for n in range(1, 10_000):
        path = root / (stem if n == 1 else f"{stem}_{n}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{root} has 9,999 runs named {stem}")
