"""A run folder: its file names and its result.

A training run is a folder.  ``result.json`` in it is the whole contract between a training and
whatever started it (a person, a job script, the tuning driver):

    train ──▶ run_dir/result.json ──▶ hpo
    train ──▶ run_dir/metrics.jsonl ──▶ hpo (learning curves), report

Both are plain JSON; this module needs nothing but the standard library.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeGuard

from nodule_det.untrusted import parse_object

RESULT_SCHEMA = 1


class RunStatus(StrEnum):
    """State of a run, as written to ``result.json``."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(kw_only=True)
class RunResult:
    """Outcome of a training run: the content of ``result.json``.

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
    """95% CI of ``pauc``."""
    pauc_influence: dict[str, float] | None = None
    """How much each validated patient pulls ``pauc`` up or down, by a part of a hash.  With the
    pulls of another run on the same patients it gives the error of the difference."""
    cpm: float | None = None
    step: int = 0
    """Optimiser steps done."""
    best_step: int | None = None
    n_scans_validated: int = 0
    """Scans of an interrupted validation that are done: the next session resumes after them."""
    seconds: float = 0.0
    """Wall-clock time over all sessions of the run."""
    peak_memory_bytes: int | None = None
    """Largest resident memory of the process."""
    peak_gpu_memory_bytes: int | None = None
    n_parameters: int | None = None
    n_validation_scans: int | None = None
    n_validation_lesions: int | None = None
    n_validations: int | None = None
    """Checkpoints that the best one was chosen from."""
    n_candidates_dropped: int | None = None
    """Peaks of the best validation below its ``candidates.max_per_scan`` candidates per scan."""
    schema: int = RESULT_SCHEMA
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> RunResult:
        """Read what :func:`write_json` wrote; unknown keys are kept in ``extra``.

        Raises:
            ValueError: If the text is not JSON, or has an unknown status or an impossible value.
        """
        values = parse_object(text)
        if "status" not in values:
            raise ValueError("it has no status")
        known = {f.name for f in fields(cls)}
        if not isinstance(values.get("extra", {}), dict):
            raise ValueError("extra is not an object")
        extra = {**values.get("extra", {}), **{k: v for k, v in values.items() if k not in known}}
        kept = {k: v for k, v in values.items() if k in known and k != "extra"}
        kept["status"] = RunStatus(kept["status"])
        for name, value in kept.items():
            _check(name, value)
        if kept.get("pauc_interval") is not None:
            low, high = kept["pauc_interval"]
            kept["pauc_interval"] = (float(low), float(high))
        return cls(**kept, extra=extra)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for :func:`write_json`."""
        return asdict(self)


SHARES = frozenset({"pauc", "pauc_se", "cpm"})
"""Figures between 0 and 1."""
TEXTS = frozenset({"status", "reason", "message"})
ALWAYS = frozenset({"status", "step", "n_scans_validated", "seconds", "schema"})
"""Figures that every result has; the others may be null."""


def _check(name: str, value: object) -> None:
    """Raise ValueError for an impossible value."""
    if value is None and name not in ALWAYS:
        return
    if name in TEXTS:
        fine = isinstance(value, str)
    elif name == "pauc_interval":
        fine = isinstance(value, list) and len(value) == 2 and all(map(_is_share, value))
    elif name == "pauc_influence":
        fine = isinstance(value, dict) and all(map(_is_number, value.values()))
    elif name in SHARES:
        fine = _is_share(value)
    elif name == "seconds":
        fine = _is_number(value) and 0 <= value < 1e12
    else:
        fine = _is_number(value) and isinstance(value, int) and 0 <= value < 2**63
    if not fine:
        raise ValueError(f"{name}={value!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1


class RunFolder:
    """Owns every file name of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        """Settings of the run, as YAML."""
        return self.path / "config.yaml"

    @property
    def command(self) -> Path:
        """The command line that started it."""
        return self.path / "command.txt"

    @property
    def environment(self) -> Path:
        """Versions and hardware."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per logged step or validation."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """Log of the run."""
        return self.path / "train.log"

    @property
    def checkpoint_last(self) -> Path:
        """Everything that a resumed run needs."""
        return self.path / "last.pt"

    @property
    def checkpoint_best(self) -> Path:
        """Weights of the best validation."""
        return self.path / "best.pt"

    @property
    def candidates(self) -> Path:
        """Candidates of the best validation."""
        return self.path / "candidates.csv"

    @property
    def annotations(self) -> Path:
        """Lesions of the validated scans."""
        return self.path / "annotations.csv"

    @property
    def excluded(self) -> Path:
        """Excluded findings of the validated scans."""
        return self.path / "annotations_excluded.csv"

    @property
    def scans(self) -> Path:
        """The validated scans."""
        return self.path / "scans.csv"

    @property
    def froc(self) -> Path:
        """FROC figures of the best validation."""
        return self.path / "froc.json"

    @property
    def result(self) -> Path:
        """Outcome of the run."""
        return self.path / "result.json"

    @property
    def forecast(self) -> Path:
        """What a dry run said about the run."""
        return self.path / "forecast.json"

    @property
    def curve_figure(self) -> Path:
        """The FROC curve."""
        return self.path / "froc.png"

    @property
    def training_figure(self) -> Path:
        """Loss, learning rate and validation pAUC against steps and hours."""
        return self.path / "training.png"

    @property
    def findings_figure(self) -> Path:
        """Images of detected and missed lesions and of false positives."""
        return self.path / "findings.png"

    @property
    def archive(self) -> Path:
        """Logs, tables and figures of a finished trial, packed."""
        return self.path / "files.zip"

    @property
    def tables_and_figures(self) -> tuple[Path, ...]:
        """The small files that only people and reports read: all but result, metrics, weights."""
        return (
            *(self.config, self.command, self.environment, self.log, self.forecast),
            *(self.candidates, self.candidates.with_suffix(".origin.json")),
            *(self.annotations, self.excluded, self.scans, self.froc),
            *(self.curve_figure, self.training_figure, self.findings_figure),
        )

    @property
    def test(self) -> RunFolder:
        """Tables and figures of the test fold, with the same names as those of the validation."""
        return RunFolder(self.path / "test")


def new_run_dir(root: Path) -> Path:
    """Create and return a new folder in ``root``, named by date and time.

    Two runs that start in the same second get two folders, since ``mkdir`` claims the name.
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
