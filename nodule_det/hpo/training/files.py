"""The files of a job folder that say whether its job runs, and how it ended.

submit_pbs.sh ──▶ claim, exit_code ──read_claim(), read_exit()──▶ Claim, Exit
driver ──close()──▶ claim, so that a job which turns up late does not run
"""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from nodule_det.errors import ExitCode

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


def read_claim(folder: Path) -> Claim | None:
    """Read who runs a job folder; None before a job has started in it, or if none ever will."""
    words = _words(folder / "claim")
    started_s = _number(words[2]) if len(words) == 3 else None
    if started_s is None or words[0] == CLOSED:
        return None
    return Claim(words[0], words[1], started_s)


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


def read_exit(folder: Path) -> Exit | None:
    """Read how the job of a folder ended; None before it has, or if the file is damaged."""
    words = _words(folder / "exit_code")
    ended_s = _number(words[1]) if len(words) == 2 and words[0].isdecimal() else None
    return None if ended_s is None else Exit(int(words[0]), ended_s)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
