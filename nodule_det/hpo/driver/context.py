"""What all parts of the driver share: the study, the batch system, the clock and its notes.

    Driver ──DriverContext──▶ collecting, cancelling, submitting

The study is the replay of the journal.  The notes of a session may be lost.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nodule_det.config.hpo import HpoConfig
from nodule_det.hpo.dispatch.base import Dispatcher, Job, JobReport
from nodule_det.hpo.driver.clock import Clock
from nodule_det.hpo.strategy.strategy import Propose
from nodule_det.hpo.study.study import Study, StudyWriter
from nodule_det.hpo.study.trial import Attempt, Reason, Trial, TrialState
from nodule_det.hpo.training.result import read_curve

PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN),
    *(errno.ENOTCONN, errno.ESHUTDOWN, errno.EREMOTEIO),  # a client evicted by its server
    *(errno.ENFILE, errno.EMFILE, errno.EAGAIN, errno.ENOMEM),
}
"""File errors that may be temporary: a full disk, an unreachable server, exhausted resources."""


@dataclass
class Absence:
    """A job that the batch system reports as gone, and whose outcome is not known yet."""

    since_s: float
    """Monotonic time of the first such report."""
    beat: str
    """Its latest heartbeat, which last changed at ``beat_s``."""
    beat_s: float
    polls: int = 0
    comments: str = ""
    """Comments of the batch system on it, one line for each poll."""


@dataclass
class SessionState:
    """State of the driver in this session only, all of which may be lost."""

    absences: dict[tuple[int, int], Absence] = field(default_factory=dict)
    """Jobs that the batch system reports as gone, by trial and attempt."""
    paused_until: dict[int, float] = field(default_factory=dict)
    """Monotonic time before which a trial gets no job, because its run folder was in use."""
    ended_since: dict[tuple[int, int], float] = field(default_factory=dict)
    """Time since when an attempt is known to have been ended, for which the batch system may still
    report the reason.  Reset while the batch system does not answer."""
    cancelled_at: dict[int, float] = field(default_factory=dict)
    reports: dict[int, JobReport] = field(default_factory=dict)
    """The last report of each pending trial, for the table."""
    reported: set[str] = field(default_factory=set)
    troubles: int = 0
    """Number of steps in a row that ended without an answer."""
    answered: bool = False
    """Whether the batch system has answered a poll in this step."""
    accepted: bool = False
    """Whether it has accepted a job in this session."""
    tidied: set[int] = field(default_factory=set)
    """Finished trials of which nothing is left to remove."""
    packed: set[int] = field(default_factory=set)
    """Finished trials whose small files have been packed."""
    failures: int = 0
    """Number of suspicious failures since the last complete training."""
    refused: int = 0
    """Number of proposals refused by their forecast since the last one that was not."""


@dataclass(kw_only=True)
class DriverContext:
    """See the top of this file."""

    writer: StudyWriter
    """The study, whose lock is held."""
    dispatcher: Dispatcher
    propose: Propose
    config: HpoConfig
    clock: Clock
    workdir: Path
    """Working directory of the trainings, to which their paths are relative."""
    say: Callable[[str], None] = lambda _: None
    """Reports an event to the user in one line."""
    notes: SessionState = field(default_factory=SessionState)
    asks: bool = True
    """Whether new points are proposed; False where a command queues all of them."""
    stopping: bool = False
    """Set to cancel every job and start no more."""

    @property
    def study(self) -> Study:
        return self.writer.study

    def open_attempts(self) -> list[tuple[Trial, Attempt]]:
        """List the attempts whose jobs may still exist; each occupies a worker."""
        return [(t, t.attempt) for t in self.study.pending if t.attempt is not None]

    def job(self, trial: Trial, attempt: Attempt) -> Job:
        """Return the job to submit for an attempt."""
        return Job(attempt.name, self.folder(trial, attempt))

    def folder(self, trial: Trial, attempt: Attempt) -> Path:
        """Return the folder of an attempt."""
        return self.writer.folder.attempt(trial.number, attempt.number)

    def run_dir(self, trial: Trial) -> Path:
        """Return the run folder of a trial's training."""
        return self.writer.folder.trial(trial.number)

    def waiting(self) -> list[Trial]:
        """List the trials that wait for a worker, the oldest first."""
        now = self.clock.monotonic()
        return [
            t
            for t in self.study.pending
            if t.attempt is None
            and not t.cancelling
            and self.notes.paused_until.get(t.number, now) <= now
        ]

    def observe(self, trial: Trial) -> None:
        """Record the new validations of a trial."""
        seen = {o.epoch for o in trial.curve}
        for o in read_curve(self.run_dir(trial), self.study.objective):
            if o.epoch not in seen:
                fields = {"epoch": o.epoch, "value": o.value, "se": o.se}
                self.writer.write("observed", trial=trial.number, **fields)
                seen.add(o.epoch)

    @contextmanager
    def sparing_others(self, trial: Trial) -> Iterator[None]:
        """Fail only the trial whose files cannot be used, so that the others continue.

        Temporary errors are raised, so that the whole step is repeated.
        """
        try:
            yield
        except OSError as error:
            now = self.study.trial(trial.number)
            if error.errno in PASSING or not now.pending:
                raise
            message = f"the files of this trial cannot be used: {error}"
            self.finish(now, TrialState.FAILED, Reason.ERROR, message=message)
            self.notes.failures += 1

    def finish(self, trial: Trial, state: TrialState, reason: Reason, **fields: object) -> None:
        """Record and report that a trial has ended without a value."""
        self.writer.write("finished", trial=trial.number, state=state, reason=reason, **fields)
        message = f": {fields['message']}" if fields.get("message") else ""
        self.say(f"trial {trial.number} {state}: {reason}{message}")

    def submitted(self, trial: Trial, attempt: Attempt, job_id: str) -> None:
        """Record the id that the batch system gave to an attempt."""
        fields = {"attempt": attempt.number, "job": job_id}
        self.writer.write("submitted", trial=trial.number, **fields)

    def say_once(self, text: str) -> None:
        """Report something once per session."""
        if text not in self.notes.reported:
            self.notes.reported.add(text)
            self.say(text)
