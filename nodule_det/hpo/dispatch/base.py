"""The interface to a batch system: submit a job, find it by name, poll all jobs, cancel.

    Job(name, folder) ──submit()──▶ id ──poll()──▶ JobReport(state) ──▶ exit_code in the folder

A poll only reports whether a job may still produce a result.  How it ended is read from the files
that the job itself writes (``claim``, ``exit_code``, the training's ``result.json``): batch
systems forget, and their exit codes lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.errors import DispatchError


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
    """The batch system's own text, such as why the job waits."""

    never_runs: bool = False
    """Whether a queued job can never run as it was submitted."""
    held: bool = False
    """Whether a queued job waits until a person releases it."""


@dataclass(frozen=True)
class Explanation:
    """Why the batch system ended a job, in its own words."""

    text: str
    out_of_memory: bool = False


class Unavailable(DispatchError):
    """No answer, or a refusal that passes: nothing is known, ask again later."""


class MissingCommand(DispatchError):
    """The command of a batch system is not on the PATH."""


class Refused(DispatchError):
    """The job was refused for good: its settings do not suit the site."""


@dataclass(frozen=True)
class Job:
    """What is submitted: the script of ``folder``, under a unique name."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    @property
    def script(self) -> Path:
        return self.folder / "job.sh"


class Dispatcher(Protocol):
    """A batch system.  No method blocks for longer than a time limit.

    A method that needs a command which is not on the PATH raises MissingCommand.
    """

    COMMANDS: ClassVar[tuple[str, ...]]
    """Commands without which nothing works."""

    def __init__(self, config: DispatcherConfig, script: Path) -> None:
        """Take the settings of the site and the path of ``submit_pbs.sh``."""

    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            Unavailable: If there was no clear answer; the job may or may not be there.
            Refused: If the job is not there and the same job would be refused again.
        """

    def find(self, job: Job) -> str | None:
        """Return the id of this user's job of that name and folder; None if there is none.

        Raises:
            Unavailable: If there was no answer.
        """

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Ask for many jobs at once; an id without an answer is left out.

        Raises:
            Unavailable: If there was no answer at all.
        """

    def cancel(self, ids: Sequence[str]) -> str:
        """Ask for jobs to be ended; they are there until a poll reports GONE.

        Returns:
            What the batch system objects to, and what a person can do; empty if nothing.

        Raises:
            Unavailable: If there was no answer.
        """

    def preview(self, job: Job) -> str:
        """Return the command that would submit a job."""

    def place(self) -> str:
        """Return the name of the cluster or server; empty if it has none."""

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return whether a job can be asked about from any host, this one included.

        Args:
            job_id: None for a job whose submission was never answered.
        """

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare two ids, as this system and the job itself write them."""

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the command with which a person ends a job."""

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Find out why the batch system ended a job.

        Args:
            log: The end of the job's log.
            comment: What polls reported of it once it was gone.
        """
