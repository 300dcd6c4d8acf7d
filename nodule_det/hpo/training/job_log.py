"""The end of a job's log, where batch systems and trainings leave their last message."""

from __future__ import annotations

import os
from pathlib import Path

TAIL_BYTES = 65_536


def read_tail(attempt_dir: Path) -> str:
    """Read the end of ``job.log``; empty where there is none (yet)."""
    try:
        with open(attempt_dir / "job.log", "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - TAIL_BYTES))
            return f.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
