"""What every part of the driver works with: the study, the batch system, time, and its own notes.

    Driver ──DriverContext──▶ collecting, cancelling, submitting

What a context knows of the study is the journal's replay; what it notes itself may be lost.
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
    *(errno.ENOTCONN, errno.ESHUTDOWN, errno.EREMOTEIO),  # a client that its server has put out
    *(errno.ENFILE, errno.EMFILE, errno.EAGAIN, errno.ENOMEM),
}
"""File errors that may pass: a full disk, its server away, the login node out of something."""


@dataclass
class Absence:
    """A job that the batch system reports gone, and whose end is not known yet."""

    since_s: float
    """Monotonic time of the first such report."""
    beat: str
    """Its heartbeat when that last changed, at ``beat_s``."""
    beat_s: float
    polls: int = 0
    comments: str = ""
    """What the batch system reported of it, one line for each poll."""


@dataclass
class SessionState:
    """What the driver remembers of this session only; all of it may be lost."""

    absences: dict[tuple[int, int], Absence] = field(default_factory=dict)
    """Jobs that the batch system reports gone, by trial and attempt."""
    paused_until: dict[int, float] = field(default_factory=dict)
    """Monotonic time before which a trial gets no job: its run folder was in use."""
    ended_since: dict[tuple[int, int], float] = field(default_factory=dict)
    """First time at which an attempt was seen to have been ended, which the batch system may
    explain; it starts anew while the batch system gives no answer."""
    cancelled_at: dict[int, float] = field(default_factory=dict)
    reports: dict[int, JobReport] = field(default_factory=dict)
    """The last report of each pending trial, for the table."""
    told: set[str] = field(default_factory=set)
    troubles: int = 0
    """Steps in a row that ended without an answer."""
    answered: bool = False
    """Whether the batch system has answered a poll in this step."""
    accepted: bool = False
    """Whether it has taken a job in this session."""
    tidied: set[int] = field(default_factory=set)
    """Trials that are over and whose checkpoints are gone."""
    failures: int = 0
    """Trainings that failed for their setup, or for no reason known, since the last good one."""
    refused: int = 0
    """Proposals that were refused by their forecast since the last point that was not."""


@dataclass(kw_only=True)
class DriverContext:
    """See the head of this file."""

    writer: StudyWriter
    """The study, its lock held."""
    dispatcher: Dispatcher
    propose: Propose
    config: HpoConfig
    clock: Clock
    workdir: Path
    """Folder in which the trainings start, against which their paths are read."""
    say: Callable[[str], None] = lambda _: None
    """Takes one line for people about each event."""
    notes: SessionState = field(default_factory=SessionState)
    stopping: bool = False
    """Set to cancel every job and ask for no more."""

    @property
    def study(self) -> Study:
        return self.writer.study

    def open_attempts(self) -> list[tuple[Trial, Attempt]]:
        """List the attempts whose jobs may still be there; each holds a worker."""
        return [(t, t.attempt) for t in self.study.pending if t.attempt is not None]

    def job(self, trial: Trial, attempt: Attempt) -> Job:
        """Return what the batch system is asked to run."""
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
        """Write down the validations of a trial that are new."""
        seen = {o.epoch for o in trial.curve}
        for o in read_curve(self.run_dir(trial), self.study.objective):
            if o.epoch not in seen:
                fields = {"epoch": o.epoch, "value": o.value, "se": o.se}
                self.writer.write("observed", trial=trial.number, **fields)
                seen.add(o.epoch)

    @contextmanager
    def sparing_others(self, trial: Trial) -> Iterator[None]:
        """Fail the one trial whose files cannot be used, so that the others continue.

        Troubles that may pass are raised: the whole step is done again.
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
        """Write that a trial is over without a value, and say so."""
        self.writer.write("finished", trial=trial.number, state=state, reason=reason, **fields)
        message = f": {fields['message']}" if fields.get("message") else ""
        self.say(f"trial {trial.number} {state}: {reason}{message}")

    def submitted(self, trial: Trial, attempt: Attempt, job_id: str) -> None:
        """Write by which id the batch system knows an attempt."""
        fields = {"attempt": attempt.number, "job": job_id}
        self.writer.write("submitted", trial=trial.number, **fields)

    def say_once(self, text: str) -> None:
        """Say something once in this session."""
        if text not in self.notes.told:
            self.notes.told.add(text)
            self.say(text)
