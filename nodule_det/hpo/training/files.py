"""The files of a job folder that say whether its job runs, and how it ended.

submit_pbs.sh ──▶ claim, heartbeat, exit_code ──read_job()──▶ JobFiles
driver ──close()──▶ claim, so that a job which turns up late does not run
driver ──abandon()──▶ abandoned, so that a job which runs unseen ends
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
"""How often ``submit_pbs.sh`` writes ``heartbeat`` while its training runs."""
CLOSED = "closed"
"""Owner of a job folder in which no job may start any more."""


@dataclass(frozen=True)
class Claim:
    """Who runs a job folder, as written by the job when it started."""

    job: str
    host: str
    started_s: float


@dataclass(frozen=True)
class Exit:
    """How a job ended, as written by the job when its command was over."""

    code: int
    ended_s: float

    @property
    def asked_to_end(self) -> bool:
        """Whether it may have been ended by a memory guard, a limit, or a person.

        PBS sends SIGTERM, also if it ends a job for its memory, and only says so in the job's log
        once the job is gone.  A training that saved a checkpoint at SIGTERM is the same case.
        """
        return self.code in (128 + signal.SIGKILL, 128 + signal.SIGTERM, ExitCode.STOPPED)


@dataclass(frozen=True)
class JobFiles:
    """What a job folder says at one moment."""

    claim: Claim | None
    exit: Exit | None
    beat: str
    """Content of ``heartbeat``, which changes while the job runs; empty without one."""


def read_job(folder: Path) -> JobFiles:
    """Read the files of a job folder, each once."""
    return JobFiles(read_claim(folder), read_exit(folder), " ".join(_words(folder / "heartbeat")))


def read_claim(folder: Path) -> Claim | None:
    """Read who runs a job folder.

    Returns:
        None before a job has started in it, if none ever will, or if the file is damaged.
    """
    words = _words(folder / "claim")
    started_s = _time(words[2]) if len(words) == 3 else None
    if started_s is None or words[0] == CLOSED or not JOB_ID.fullmatch(words[0]):
        return None
    return Claim(words[0], printable(words[1]), started_s)


def close(folder: Path) -> bool:
    """Claim a job folder for nobody: a job that the batch system brings up late will not run.

    Returns:
        False if a job has claimed it first, which runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / f".claim.{CLOSED}"
    own.write_text(f"{CLOSED} {socket.gethostname()} {time.time():.3f}\n", encoding="utf-8")
    try:
        os.link(own, folder / "claim")  # made or refused in one step, as in submit_pbs.sh
    except FileExistsError:
        return read_claim(folder) is None
    finally:
        own.unlink()
    return True


def abandon(folder: Path) -> None:
    """Tell the job of a folder to end its training: its trial continues without it.

    Obeyed within ``HEARTBEAT_S`` by a job that still runs and can see the folder.
    """
    (folder / "abandoned").touch()


def read_exit(folder: Path) -> Exit | None:
    """Read how the job of a folder ended; None before it has, or if the file is damaged."""
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
