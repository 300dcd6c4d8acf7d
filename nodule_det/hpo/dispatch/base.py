"""The interface to a batch system: submit a job, find it by name, poll all jobs, cancel.

    Job(name, folder) ──submit()──▶ id ──poll()──▶ JobReport(state) ──▶ exit_code in the folder

A poll only reports whether a job may still produce a result.  How it ended is read from the files
that the job itself writes (``claim``, ``exit_code``, the training's ``result.json``), because batch
systems forget jobs and report wrong exit codes.
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
    """State of a job in the batch system.  It may return from RUNNING to QUEUED (requeued)."""

    QUEUED = "queued"
    RUNNING = "running"
    GONE = "gone"
    """Ended, or reported as unknown.  A job that is merely not mentioned has no report."""


@dataclass(frozen=True)
class JobReport:
    """One job in the answer to a poll."""

    state: JobState
    comment: str = ""
    """Text from the batch system, such as why the job waits."""

    never_runs: bool = False
    """Whether a queued job can never run as submitted."""
    held: bool = False
    """Whether a queued job waits until a person releases it."""


@dataclass(frozen=True)
class Explanation:
    """Why the batch system ended a job, as it reported it."""

    text: str
    out_of_memory: bool = False


class Unavailable(DispatchError):
    """No answer, or a temporary refusal: nothing is known, so ask again later."""


class MissingCommand(DispatchError):
    """The command of a batch system is not on the PATH."""


class Refused(DispatchError):
    """The job was refused permanently: its settings do not fit the site."""


@dataclass(frozen=True)
class Job:
    """A job to submit: the script in ``folder``, under a unique name."""

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

    A method that needs a command that is not on the PATH raises MissingCommand.
    """

    COMMANDS: ClassVar[tuple[str, ...]]
    """Required commands."""

    def __init__(self, config: DispatcherConfig, script: Path) -> None:
        """Store the settings of the site and the path of ``submit_pbs.sh``."""

    def submit(self, job: Job) -> str:
        """Submit a job and return its id.

        Raises:
            Unavailable: If there was no clear answer; the job may or may not exist.
            Refused: If the job does not exist and would be refused again.
        """

    def find(self, job: Job) -> str | None:
        """Return the id of this user's job with that name and folder; None if there is none.

        Raises:
            Unavailable: If there was no answer.
        """

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Return the states of many jobs at once; an id without an answer is omitted.

        Raises:
            Unavailable: If there was no answer at all.
        """

    def cancel(self, ids: Sequence[str]) -> str:
        """Request the end of jobs, which exist until a poll reports GONE.

        Returns:
            Why the batch system refuses, and what a person can do; empty if it does not.

        Raises:
            Unavailable: If there was no answer.
        """

    def preview(self, job: Job) -> str:
        """Return the command that would submit a job."""

    def place(self) -> str:
        """Return the name of the cluster or server; empty if it has none."""

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return whether the state of a job can be queried from this host.

        Args:
            job_id: None for a job whose submission was never answered.
        """

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Return whether two ids are the same job, as written by this system and the job itself."""

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the command with which a user can end a job."""

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Return why the batch system ended a job, if known.

        Args:
            log: The end of the job's log.
            comment: Comment of the polls after the job had ended.
        """
