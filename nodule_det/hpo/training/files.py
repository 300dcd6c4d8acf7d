"""The files of a job folder, which show whether its job runs and how it ended.

submit_pbs.sh ──▶ claim, heartbeat, exit_code ──read_job()──▶ JobFiles
driver ──close()──▶ claim, so that a job that starts late does not run
driver ──abandon()──▶ abandoned, so that a job that the driver cannot see ends
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from nodule_det.config.hpo import JOB_ID
from nodule_det.errors import ExitCode
from nodule_det.untrusted import printable, read_bytes

MAX_BYTES = 10_000

HEARTBEAT_S = 20.0
"""Seconds between two writes of ``heartbeat`` by ``submit_pbs.sh`` while its training runs."""
CLOSED = "closed"
"""Owner of a job folder in which no job may start."""


@dataclass(frozen=True)
class Claim:
    """The job that runs a job folder, as it recorded itself when it started."""

    job: str
    host: str
    started_s: float


@dataclass(frozen=True)
class Exit:
    """How a job ended, as it recorded when its command had ended."""

    code: int
    ended_s: float

    @property
    def asked_to_end(self) -> bool:
        """Whether it may have been ended by a memory limit, a time limit, or a person.

        PBS sends SIGTERM even if it ends a job for its memory, and reports that only later in the
        job's log.  A training that saved a checkpoint at SIGTERM is the same case.
        """
        return self.code in (128 + signal.SIGKILL, 128 + signal.SIGTERM, ExitCode.STOPPED)


@dataclass(frozen=True)
class JobFiles:
    """State of a job folder at one moment."""

    claim: Claim | None
    exit: Exit | None
    beat: str
    """Content of ``heartbeat``, which changes while the job runs; empty if missing."""


def read_job(folder: Path) -> JobFiles:
    """Read the files of a job folder, each once."""
    return JobFiles(read_claim(folder), read_exit(folder), " ".join(_words(folder / "heartbeat")))


def read_claim(folder: Path) -> Claim | None:
    """Read which job runs a job folder.

    Returns:
        None if no job has started, the folder is closed, or the file is damaged.
    """
    words = _words(folder / "claim")
    started_s = _time(words[2]) if len(words) == 3 else None
    if started_s is None or words[0] == CLOSED or not JOB_ID.fullmatch(words[0]):
        return None
    return Claim(words[0], printable(words[1]), started_s)


def close(folder: Path) -> bool:
    """Close a job folder: a job that the batch system starts later will not run its training.

    Returns:
        False if a job has claimed the folder first and runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / f".claim.{CLOSED}"
    own.write_text(f"{CLOSED} {socket.gethostname()} {time.time():.3f}\n", encoding="utf-8")
    try:
        os.link(own, folder / "claim")  # atomic, as in submit_pbs.sh
    except FileExistsError:
        return read_claim(folder) is None
    finally:
        own.unlink()
    return True


def abandon(folder: Path) -> None:
    """Request the job of a folder to end its training: its trial continues without it.

    A job that still runs and can see the folder ends within ``HEARTBEAT_S``.
    """
    (folder / "abandoned").touch()


def read_exit(folder: Path) -> Exit | None:
    """Read how the job of a folder ended; None if it has not, or if the file is damaged."""
    words = _words(folder / "exit_code")
    ended_s = _time(words[1]) if len(words) == 2 else None
    if ended_s is None or not re.fullmatch(r"[0-9]{1,3}", words[0], re.ASCII):
        return None
    return Exit(int(words[0]), ended_s) if int(words[0]) <= 255 else None


def _words(path: Path) -> list[str]:
    try:
        return read_bytes(path, MAX_BYTES).decode(errors="replace").split()
    except (FileNotFoundError, ValueError):
        return []


def _time(text: str) -> float | None:
    """Return Unix seconds; None for anything else."""
    return float(text) if re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,9})?", text, re.ASCII) else None
