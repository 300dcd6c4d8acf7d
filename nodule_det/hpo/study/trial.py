"""What a study knows of one trial: plain frozen records, made only by replaying the journal.

    journal ──Study.apply()──▶ Trial(params, state, value, curve, attempts)

A trial is one point of the search space; an attempt is one job that runs (part of) its training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nodule_det.config.hpo import Failures
from nodule_det.errors import ExitCode
from nodule_det.hpo.space.space import Params


class TrialState(StrEnum):
    """Where a trial stands.  Only PENDING can change."""

    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why an attempt or a trial ended otherwise than with a value."""

    OUT_OF_MEMORY = "out_of_memory"
    """The device had no memory left: an outcome, the parameters' own fault."""
    DIVERGED = "diverged"
    """The loss was no longer a number: an outcome as well."""
    BAD_INPUT = "bad_input"
    """The training refused its settings or its data."""
    ERROR = "error"
    """The training ended with an error of its own."""
    STOPPED = "stopped"
    """Left at its wall-clock limit with a checkpoint; goes on in the next attempt."""
    KILLED = "killed"
    """Killed by a signal that was not ours: the system's memory guard, or a person."""
    LOST = "lost"
    """The job left no result through no fault of its own: its node crashed, its disk was full."""
    BUSY = "busy"
    """Found its run folder in use, such as by an earlier job behind a network that was cut."""
    NO_PROGRESS = "no_progress"
    """Two jobs in a row were stopped at the same point of the training."""
    EARLY_STOPPED = "early_stopped"
    """Cancelled by the early-stopping rule."""
    REFUSED = "refused"
    """Forecast to need far more memory or time than a job has; it never became a job."""
    USER = "user"
    """Cancelled by hand."""

    @classmethod
    def of(cls, code: int) -> Reason | None:
        """Return what an exit code of a training means to a study; None if nothing in particular.

        Example:
            >>> Reason.of(86), Reason.of(88)
            (<Reason.DIVERGED: 'diverged'>, <Reason.LOST: 'lost'>)
        """
        return _OF_EXIT_CODE.get(code)


_OF_EXIT_CODE: dict[int, Reason] = {
    ExitCode.BAD_INPUT: Reason.BAD_INPUT,
    ExitCode.STOPPED: Reason.STOPPED,
    ExitCode.DIVERGED: Reason.DIVERGED,
    ExitCode.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    ExitCode.UNWRITTEN: Reason.LOST,
    ExitCode.BUSY: Reason.BUSY,
}


class Source(StrEnum):
    """Where a trial's point comes from; a proposed one names the strategy instead."""

    FIRST = "first"
    """Listed in the search space."""
    USER = "user"
    """Queued by a person."""
    IMPORTED = "imported"
    """Run by another study: it informs the model, but was never a job here."""
    RECOVERED = "recovered"
    """Read back from its folder after the journal had lost it."""


OUTCOMES = frozenset({Reason.OUT_OF_MEMORY, Reason.DIVERGED, Reason.REFUSED})
"""Failures that belong to the parameters: they are never retried, and a model may learn them."""
SUSPICIOUS = frozenset(
    {Reason.ERROR, Reason.BAD_INPUT, Reason.LOST, Reason.BUSY, Reason.NO_PROGRESS}
)
"""Failures in which the parameters have no part: several in a row point to the setup or a node."""


@dataclass(frozen=True)
class Observation:
    """One validation of a running training."""

    epoch: int
    value: float
    se: float | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One job of a trial."""

    number: int
    """From 1."""
    name: str
    """Unique name of the job, by which the batch system is asked for it."""
    intent_s: float
    """Unix time at which it was decided; like all times here, by the driver's clock."""
    job: str | None = None
    """Id given by the batch system; None until it has answered."""
    submitted_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    reason: Reason | None = None
    """Why it ended; None while it runs and after a good end."""
    progress: str | None = None
    """How far the training was when this attempt stopped, where it says so."""

    @property
    def open(self) -> bool:
        """Whether the job may still be there."""
        return self.ended_s is None

    @property
    def seconds(self) -> float:
        """Time on a node; 0 until it is known."""
        if self.started_s is None or self.ended_s is None:
            return 0.0
        return max(0.0, self.ended_s - self.started_s)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the search space and what became of it."""

    number: int
    params: Params
    state: TrialState = TrialState.PENDING
    value: float | None = None
    """The objective, larger is better; None unless COMPLETE."""
    value_se: float | None = None
    """Standard error of ``value`` over resampled validation cases, where the training gave one."""
    reason: Reason | None = None
    """Why it is FAILED or CANCELLED."""
    message: str | None = None
    source: str = "proposed"
    """A :class:`Source`, or the name of the strategy that proposed it."""
    curve: tuple[Observation, ...] = ()
    """Validations seen so far, by rising epoch."""
    attempts: tuple[Attempt, ...] = ()
    cancelling: Reason | None = None
    """Set once its cancellation was asked for; the job may still be there."""
    peak_memory_bytes: int | None = None
    """Largest memory of the training (of the GPU where it had one), where it told."""
    imported_seconds: float | None = None
    """Node time of an imported trial, which has no attempts."""
    asked_s: float = 0.0
    finished_s: float | None = None
    origin: str | None = field(default=None, compare=False)
    """File of the queue folder it came from."""

    @property
    def next_attempt(self) -> int:
        """Number of the next attempt; of lost ones the journal may have kept the last alone."""
        return self.attempts[-1].number + 1 if self.attempts else 1

    @property
    def attempt(self) -> Attempt | None:
        """The attempt whose job may still be there."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].open else None

    @property
    def seconds(self) -> float:
        """Node time over all attempts that have ended."""
        if self.imported_seconds is not None:
            return self.imported_seconds
        return sum(a.seconds for a in self.attempts)

    @property
    def pending(self) -> bool:
        """Whether it has no outcome yet."""
        return self.state is TrialState.PENDING


@dataclass(frozen=True)
class Session:
    """One session of the driver."""

    host: str
    pid: int
    workers: int
    dispatcher: str
    started_s: float
    failures: Failures = Failures.model
    """How the model used trainings that ran out of memory or diverged."""
    folder: str = ""
    """Folder of the study at that time; empty in records of earlier versions."""
    place: str = ""
    """Name of the cluster or server; empty if unknown."""
