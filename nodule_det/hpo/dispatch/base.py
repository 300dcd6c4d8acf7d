"""What a batch system is to the driver: submit, find by name, poll all, cancel.

    Job(name, folder) ──submit()──▶ id ──poll()──▶ JobReport(state) ──▶ exit_code in the folder

A poll only says whether a job may still come to something.  How it ended is read from the files
that the job itself writes (``claim``, ``exit_code``, the training's ``result.json``): batch
systems forget, and their exit codes lie.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from nodule_det.errors import DispatchError, ExitCode

CLOSED = "closed"
"""Owner of a job folder in which no job may start any more."""


class JobState(StrEnum):
    """A job as the batch system sees it; it may go back from RUNNING to QUEUED (requeued)."""

    QUEUED = "queued"
    RUNNING = "running"
    GONE = "gone"
    """Over, or refused by name.  A job that is merely not mentioned has no report at all."""


@dataclass(frozen=True)
class JobReport:
    """One job in the answer to a poll."""

    state: JobState
    comment: str = ""
    """The batch system's own words, such as why the job waits."""

    @property
    def never_runs(self) -> bool:
        """Whether the job can never run as it was asked for."""
        return self.state is JobState.QUEUED and "can never run" in self.comment.lower()

    @property
    def held(self) -> bool:
        """Whether the job waits until a person releases it."""
        return self.state is JobState.QUEUED and "held" in self.comment.lower()


class Unavailable(DispatchError):
    """No answer, or a refusal that passes: nothing is known, ask again later."""


class Refused(DispatchError):
    """The job was refused for good: its settings do not suit the site."""


@dataclass(frozen=True)
class Job:
    """What is submitted: the script of ``folder``, under a unique name."""

    name: str
    folder: Path

    log = property(lambda self: self.folder / "job.log")
    script = property(lambda self: self.folder / "job.sh")


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
    def told_to_end(self) -> bool:
        """Whether somebody may have ended it: a memory guard, a limit, or a person.

        PBS sends SIGTERM, also where it ends a job for its memory, and only says so in the job's
        log once the job is gone.  A training that saved a checkpoint at SIGTERM is no other case.
        """
        return self.code in (128 + signal.SIGKILL, 128 + signal.SIGTERM, ExitCode.STOPPED)


class Dispatcher(Protocol):
    """A batch system.  No method blocks for longer than a time limit."""

    def submit(self, job: Job) -> str:
        """Submit a job and give its id.

        Raises:
            Unavailable: If there was no clear answer; the job may or may not be there.
            Refused: If the job is not there and the same job would be refused again.
        """

    def find(self, job: Job) -> str | None:
        """Return the id of a job by its name; None if the batch system has never seen it.

        Raises:
            Unavailable: If there was no answer.
        """

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Ask for many jobs at once; an id without an answer is left out.

        Raises:
            Unavailable: If there was no answer at all.
        """

    def cancel(self, ids: Sequence[str]) -> None:
        """Ask for jobs to be ended; they are there until a poll says GONE.

        Raises:
            Unavailable: If there was no answer.
        """

    def preview(self, job: Job) -> str:
        """Write the command that would submit a job."""

    def place(self) -> str:
        """Name the cluster or server that would run a job; empty where nobody tells."""


def read_claim(folder: Path) -> Claim | None:
    """Read who runs a job folder; None before a job has started in it, or if none ever will."""
    words = _words(folder / "claim")
    if len(words) != 3 or words[0] == CLOSED:
        return None
    return Claim(words[0], words[1], float(words[2]))


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
    """Read how the job of a folder ended; None before it has."""
    words = _words(folder / "exit_code")
    return Exit(int(words[0]), float(words[1])) if len(words) == 2 else None


_MEMORY = re.compile(
    r"^(slurmstepd\S*: .*(oom.kill|OOM Killed|memory limit).*"
    r"|=>> PBS: job killed: [vp]?mem .*"
    r"|.*Cgroup mem(sw)? limit exceeded.*"
    r"|OUT_OF_MEMORY.*"
    r"|.*exceeded resource [vp]?mem\b.*)$",
    re.M | re.I,
)
"""How batch systems say that they killed a job for its memory: in its log, or of it in a poll."""
LOG_TAIL_BYTES = 65_536


def killed_for_memory(folder: Path, comment: str = "") -> str | None:
    """Find the batch system's own word that a job was killed for its memory.

    Args:
        folder: Of the job; the end of its log is read.
        comment: What the batch system said of it in polls.
    """
    found = _MEMORY.search(comment) or _MEMORY.search(_tail(folder / "job.log"))
    return found[0].strip() if found else None


_ENDED = re.compile(r"^(=>> PBS: job killed: .*|slurmstepd\S*: error: \*\*\* .*)$", re.M)
"""How batch systems say in a job's log that they ended it, such as for its wall-clock limit."""


def last_words(folder: Path) -> str | None:
    """Find the batch system's own word in a job's log on why it ended the job."""
    found = _ENDED.findall(_tail(folder / "job.log"))
    return str(found[-1]).strip() if found else None


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - LOG_TAIL_BYTES))
            return f.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


def same_job(one: str, other: str) -> bool:
    """Compare ids; a PBS id with and without its server's name is one job."""
    return one == other or (
        one.split(".")[0] == other.split(".")[0] and "." in one + other and one[:1].isdigit()
    )
