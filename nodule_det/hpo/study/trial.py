"""The state of one trial: plain frozen records, created only by replaying the journal.

    journal ──Study.apply()──▶ Trial(params, state, value, curve, attempts)

A trial is one point of the search space.  An attempt is one job that runs (part of) its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nodule_det.config.hpo import Failures
from nodule_det.errors import ExitCode
from nodule_det.hpo.space.space import Params


class TrialState(StrEnum):
    """State of a trial.  Only PENDING can change."""

    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Reason(StrEnum):
    """Why an attempt or a trial ended without a value."""

    OUT_OF_MEMORY = "out_of_memory"
    """The device had no memory left.  An outcome, since the parameters caused it."""
    DIVERGED = "diverged"
    """The loss was no longer a number.  An outcome as well."""
    BAD_INPUT = "bad_input"
    """The training refused its settings or its data."""
    ERROR = "error"
    """The training failed with an error."""
    STOPPED = "stopped"
    """Stopped at the wall-clock limit with a checkpoint; the next attempt resumes it."""
    KILLED = "killed"
    """Killed by a signal not from the driver, such as the system's memory limit or a person."""
    LOST = "lost"
    """The job left no result for an external reason: its node crashed, or its disk was full."""
    BUSY = "busy"
    """The run folder was in use, for example by an earlier job behind a broken network."""
    NO_PROGRESS = "no_progress"
    """Two jobs in a row were stopped at the same point of the training."""
    EARLY_STOPPED = "early_stopped"
    """Cancelled by the early-stopping rule, which earlier versions had."""
    INFEASIBLE = "infeasible"
    """Complete, but a number that it reports violates a constraint.  It counts as without value."""
    REFUSED = "refused"
    """Predicted to exceed the memory or time limit of a job by far, and never submitted."""
    USER = "user"
    """Cancelled by the user."""

    @classmethod
    def of(cls, code: int) -> Reason | None:
        """Return the reason for an exit code of a training; None if it has no special meaning.

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
    """Source of a trial's point.  A proposed point has the name of the strategy instead."""

    FIRST = "first"
    """Listed in the search space."""
    USER = "user"
    """Queued by a person."""
    IMPORTED = "imported"
    """Run by another study: it informs the model, but had no job here."""
    RECOVERED = "recovered"
    """Recovered from its folder after its journal records were lost."""


OUTCOMES = frozenset({Reason.OUT_OF_MEMORY, Reason.DIVERGED, Reason.REFUSED, Reason.INFEASIBLE})
"""Outcomes without a value caused by the parameters: never retried, and they inform the model."""
SUSPICIOUS = frozenset(
    {Reason.ERROR, Reason.BAD_INPUT, Reason.LOST, Reason.BUSY, Reason.NO_PROGRESS}
)
"""Failures not caused by the parameters: several in a row indicate a bad setup or node."""


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
    """Unique name of the job, by which the batch system can find it."""
    intent_s: float
    """Unix time of the decision to submit, by the driver's clock as all times here."""
    job: str | None = None
    """Id from the batch system; None until it has answered."""
    submitted_s: float | None = None
    started_s: float | None = None
    ended_s: float | None = None
    reason: Reason | None = None
    """Why it ended; None while it runs and after success."""
    progress: str | None = None
    """How far the training got in this attempt, if reported."""

    @property
    def open(self) -> bool:
        """Whether the job may still exist."""
        return self.ended_s is None

    @property
    def seconds(self) -> float:
        """Time on a node; 0 until it is known."""
        if self.started_s is None or self.ended_s is None:
            return 0.0
        return max(0.0, self.ended_s - self.started_s)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the search space and its outcome."""

    number: int
    params: Params
    state: TrialState = TrialState.PENDING
    value: float | None = None
    """The objective, larger is better; None unless COMPLETE and feasible."""
    value_se: float | None = None
    """Standard error of ``value`` over resampled validation cases, if reported."""
    influence: Mapping[str, float] | None = None
    """How much each validation case pulls ``value`` up or down, if reported.  The squares add up to
    the variance of ``value``, and products with another trial's to their covariance."""
    reason: Reason | None = None
    """Why it is FAILED or CANCELLED, or COMPLETE without a value (INFEASIBLE)."""
    message: str | None = None
    source: str = "proposed"
    """A :class:`Source`, or the name of the strategy that proposed it."""
    curve: tuple[Observation, ...] = ()
    """Validations so far, in order of epoch."""
    attempts: tuple[Attempt, ...] = ()
    cancelling: Reason | None = None
    """Set once its cancellation was requested; the job may still exist."""
    peak_memory_bytes: int | None = None
    """Peak memory of the training (of the GPU if it had one), if reported."""
    imported_seconds: float | None = None
    """Node time of an imported trial, which has no attempts."""
    asked_s: float = 0.0
    finished_s: float | None = None
    origin: str | None = field(default=None, compare=False)
    """File of the queue folder it came from."""

    @property
    def next_attempt(self) -> int:
        """Number of the next attempt.  The journal may have lost records of earlier ones."""
        return self.attempts[-1].number + 1 if self.attempts else 1

    @property
    def attempt(self) -> Attempt | None:
        """The attempt whose job may still exist, if any."""
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
