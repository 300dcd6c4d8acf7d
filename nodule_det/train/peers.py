"""A failure in one of several processes, told to the first: it alone writes ``result.json``.

    process 1 fails ──leave_word()──▶ .failed.1.json ──why_lost()──▶ process 0 ──▶ result.json

The first process notices a lost one as a broken connection, which says nothing of the reason.
"""

from __future__ import annotations

import json
from pathlib import Path

from nodule_det.errors import (
    ConfigError,
    DeviceMemoryError,
    DivergedError,
    NoduleDetError,
    TrainingError,
    UnwrittenError,
)
from nodule_det.files import write_json

ERRORS: dict[int, type[NoduleDetError]] = {
    error.exit_code: error
    for error in (ConfigError, DivergedError, DeviceMemoryError, UnwrittenError)
}
"""What a process left with -> the error that the first one raises for it."""

LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
    "Timed out waiting",
    "NCCL",
)
"""Words of gloo and NCCL for a connection whose other end is gone."""


def lost_another(error: BaseException) -> bool:
    """Tell the loss of another process from an error of this one's own."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in LOST)


def leave_word(run_dir: Path, rank: int, message: str, exit_code: int) -> None:
    """Write down why this process fails, before its connections break."""
    write_json(run_dir / f".failed.{rank}.json", {"message": message, "exit_code": exit_code})


def forget_words(run_dir: Path) -> None:
    """Delete what processes of an earlier session left."""
    for path in run_dir.glob(".failed.*.json"):
        path.unlink(missing_ok=True)


def why_lost(run_dir: Path) -> NoduleDetError:
    """Return the error of the process that left a word; of one that could not, what is known."""
    for path in sorted(run_dir.glob(".failed.*.json")):
        word = json.loads(path.read_text(encoding="utf-8"))
        rank = path.name.split(".")[2]
        return ERRORS.get(word["exit_code"], TrainingError)(f"process {rank}: {word['message']}")
    return TrainingError(
        "another process of this run ended without a word (killed, or out of memory?); see what "
        "torchrun says of it; the same command goes on from the last checkpoint"
    )
