"""Results of an interrupted validation, saved scan by scan, so that the next session continues it.

    scan ──add()──▶ .validation.RANK.jsonl ──open()──▶ candidates of the scans that are done

A validation of 100 scans may take longer than a job's time limit.  The first line of the file
identifies the weights: results of other weights are discarded.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nodule_det.candidates import ScanCandidates, checked
from nodule_det.files import append_jsonl, read_jsonl, write_text
from nodule_det.train.trainer import Trainer


@dataclass
class PartialValidation:
    """The scans of a validation that are already done.

    Attributes:
        path: File of this process.
        found: Candidates of each scan, by series_uid.
    """

    path: Path
    found: dict[str, ScanCandidates] = field(default_factory=dict)

    @classmethod
    def open(cls, trainer: Trainer) -> PartialValidation:
        """Read what earlier sessions found with these weights, and delete everything else."""
        world, folder = trainer.world, trainer.folder.path
        header = {"step": trainer.state.step, "weights": fingerprint(trainer.model)}
        rows: list[dict[str, Any]] = []
        if world.first:
            for path in sorted(folder.glob(".validation.*.jsonl")):
                first, *others = _lines(path) or [{}]
                rows += others if first == header else []
                path.unlink()
        rows = world.from_first(rows)
        partial = cls(folder / f".validation.{world.rank}.jsonl")
        write_text(partial.path, json.dumps(header) + "\n")
        for row in rows:
            try:
                partial.found[str(row["series_uid"])] = _from_row(row)
            except (KeyError, TypeError, ValueError):
                continue  # a damaged line: the scan is searched again
            if world.first:
                append_jsonl(partial.path, row)
        return partial

    def add(self, series_uid: str, found: ScanCandidates) -> None:
        """Save the candidates of a scan."""
        self.found[series_uid] = found
        row = {
            "series_uid": series_uid,
            "world_mm": found.world_mm.tolist(),
            "score": found.score.tolist(),
            "diameter_mm": found.diameter_mm.tolist(),
            "n_dropped": found.n_dropped,
        }
        append_jsonl(self.path, row)

    def remove(self) -> None:
        """Delete the files of all processes, once the validation is complete."""
        for path in self.path.parent.glob(".validation.*.jsonl"):
            path.unlink(missing_ok=True)


def n_scans_done(folder: Path) -> int:
    """Count the scans of an interrupted validation that are done, over all processes."""
    return sum(max(0, len(_lines(path)) - 1) for path in folder.glob(".validation.*.jsonl"))


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return read_jsonl(path)
    except ValueError:  # not a file: the scans are searched again
        return []


def fingerprint(model: nn.Module) -> int:
    """Return a checksum of a network's weights and running averages."""
    checksum = 0
    for tensor in model.state_dict().values():
        checksum = zlib.crc32(tensor.cpu().contiguous().numpy().tobytes(), checksum)
    return checksum


def _from_row(row: dict[str, Any]) -> ScanCandidates:
    rows = [
        [*point, score, diameter]
        for point, score, diameter in zip(
            row["world_mm"], row["score"], row["diameter_mm"], strict=True
        )
    ]
    return checked(rows, row["n_dropped"])
