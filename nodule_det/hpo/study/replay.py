"""The effect of each journal record on its trial, with checks of every field.

    Trial, Fields(record) ──CHANGES[kind]()──▶ Trial

Journals are copied, edited and damaged like any other file.  A record with a missing field, a
wrong type or an impossible number raises ``StudyError``, and the replay skips it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from nodule_det.config.hpo import JOB_ID, Failures
from nodule_det.errors import StudyError
from nodule_det.hpo.study.journal import Record
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.trial import Attempt, Observation, Reason, Session, Trial, TrialState
from nodule_det.untrusted import printable

LAST_TIME_S = 1e11
"""Largest time and duration, in seconds: the year 5138."""
MOST = 1_000_000
"""Largest number of a trial, an attempt, an epoch or a worker."""
MOST_BYTES = 1 << 60
MOST_CASES = 4096
"""Largest number of validation cases whose influence is kept."""
LATE = "late"
"""Kind of the record that adds a value to a trial that had failed."""

JOB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)
FILE_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,199}\.json", re.ASCII)
"""Names of files in the queue folder."""

CASE = re.compile(r"[\w.-]{1,64}", re.ASCII)
"""Names of validation cases."""

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True)
class Fields:
    """The fields of a record; each method checks one.

    Raises:
        StudyError: From every method, if the field is missing or invalid.
    """

    record: Record
    objective: Objective

    def number(self, key: str, low: float, high: float) -> float:
        """Return a finite number within [low, high]."""
        value = self.record.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise StudyError(f"{key}={_shown(value)} must be a number")
        if not low <= value <= high:  # also refuses NaN
            raise StudyError(f"{key}={_shown(value)} must lie in [{low:g}, {high:g}]")
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int:
        """Return a whole number within [low, high]."""
        number = self.number(key, low, high)
        if number != int(number):
            raise StudyError(f"{key}={_shown(self.record[key])} must be a whole number")
        return int(self.record[key])

    def time(self, key: str) -> float:
        """Return a Unix time or a duration in seconds."""
        return self.number(key, 0, LAST_TIME_S)

    def text(self, key: str) -> str:
        """Return text, made safe for terminals and tables."""
        value = self.record.get(key)
        if not isinstance(value, str):
            raise StudyError(f"{key}={_shown(value)} must be text")
        return printable(value)

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        """Return text that fully matches a pattern."""
        text = self.text(key)
        if text != self.record[key] or not pattern.fullmatch(text):
            raise StudyError(f"{key}={_shown(text)} has characters that are not allowed")
        return text

    def word(self, key: str, words: type[Word]) -> Word:
        """Return a member of an enumeration."""
        value = self.record.get(key)
        if not isinstance(value, str) or value not in set(words):
            raise StudyError(f"{key}={_shown(value)} must be one of {', '.join(words)}")
        return words(value)

    def score(self, key: str = "value") -> float:
        """Return a value of the objective as a score: larger is better."""
        return self.objective.score(self.number(key, *self.objective.bounds))

    def se(self, key: str) -> float:
        """Return a standard error of the objective."""
        return self.number(key, 0, self.objective.largest_se)

    def influence(self, key: str) -> dict[str, float]:
        """Return the influence of each validation case on the value."""
        found = legal_influence(self.record.get(key), self.objective)
        if found is None:
            raise StudyError(f"{key} must map up to {MOST_CASES} names of cases to numbers")
        return found

    def has(self, key: str) -> bool:
        """Return whether the field is present and not null."""
        return self.record.get(key) is not None


def legal_influence(value: Any, objective: Objective) -> dict[str, float] | None:
    """Return the influence of validation cases, by name; None if it is anything else."""
    if not isinstance(value, dict) or not 0 < len(value) <= MOST_CASES:
        return None
    largest = objective.bounds[1]
    for name, pull in value.items():
        number = isinstance(pull, int | float) and not isinstance(pull, bool)
        if not (CASE.fullmatch(name) and number and -largest <= pull <= largest):
            return None
    return {name: float(pull) for name, pull in value.items()}


def _shown(value: Any) -> str:
    return printable(str(value)[:200], 40)


def read_session(f: Fields) -> Session:
    """Read the record of a session of the driver."""
    failures = f.record.get("failures", Failures.model.value)
    if failures not in [word.value for word in Failures]:
        raise StudyError(f"failures={_shown(failures)} is unknown")
    return Session(
        host=f.text("host"),
        pid=f.whole("pid", 0, 1 << 40),
        workers=f.whole("workers", 1, MOST),
        dispatcher=f.text("dispatcher"),
        started_s=f.time("t"),
        failures=Failures(failures),
        place=f.text("place") if f.has("place") else "",
        folder=f.text("folder") if f.has("folder") else "",
    )


def _intent(trial: Trial, f: Fields) -> Trial:
    if trial.attempt is not None:
        raise StudyError(f"trial {trial.number} already has an open attempt")
    attempt = Attempt(
        number=f.whole("attempt", trial.next_attempt, MOST),
        name=f.matching("name", JOB_NAME),
        intent_s=f.time("t"),
    )
    return replace(trial, attempts=(*trial.attempts, attempt))


def _submitted(trial: Trial, f: Fields) -> Trial:
    return _with_attempt(trial, f, job=f.matching("job", JOB_ID), submitted_s=f.time("t"))


def _started(trial: Trial, f: Fields) -> Trial:
    return _with_attempt(trial, f, started_s=f.time("started_s"))


def _observed(trial: Trial, f: Fields) -> Trial:
    se = f.se("se") if f.has("se") else None
    seen = Observation(f.whole("epoch", 0, MOST), f.score(), se)
    curve = [o for o in trial.curve if o.epoch != seen.epoch]
    return replace(trial, curve=tuple(sorted([*curve, seen], key=lambda o: o.epoch)))


def _cancel(trial: Trial, f: Fields) -> Trial:
    return replace(trial, cancelling=f.word("reason", Reason))


def _ended(trial: Trial, f: Fields) -> Trial:
    progress = f.text("progress") if f.has("progress") else None
    reason = f.word("reason", Reason)
    return _with_attempt(trial, f, reason=reason, progress=progress, **_times(trial, f))


def _finished(trial: Trial, f: Fields) -> Trial:
    outcome = read_outcome_fields(f)
    if trial.attempt is not None:
        open_attempt = {"attempt": trial.attempt.number}
        trial = _with_attempt(
            trial,
            replace(f, record=f.record | open_attempt),
            reason=outcome["reason"],
            **_times(trial, f),
        )
    return replace(trial, **outcome, finished_s=f.time("t"))


def _late(trial: Trial, f: Fields) -> Trial:
    return replace(trial, **read_outcome_fields(f), finished_s=f.time("t"))


def read_outcome_fields(f: Fields) -> dict[str, Any]:
    """Read the outcome of a trial from a ``finished`` record or a result in the queue.

    Returns:
        Fields of :class:`Trial`.
    """
    state = f.word("state", TrialState)
    if state is TrialState.PENDING:
        raise StudyError("state=pending is not a final state")
    reason = f.word("reason", Reason) if f.has("reason") else None
    complete = state is TrialState.COMPLETE and reason is not Reason.INFEASIBLE
    return {
        "state": state,
        "value": f.score() if complete else None,
        "value_se": f.se("value_se") if complete and f.has("value_se") else None,
        "influence": f.influence("influence") if complete and f.has("influence") else None,
        "reason": reason,
        "message": f.text("message") if f.has("message") else None,
        "peak_memory_bytes": (
            f.whole("peak_memory_bytes", 0, MOST_BYTES) if f.has("peak_memory_bytes") else None
        ),
        "imported_seconds": f.time("imported_seconds") if f.has("imported_seconds") else None,
    }


def _times(trial: Trial, f: Fields) -> dict[str, float | None]:
    """Return start and end of the open attempt, as its job wrote them or else as observed."""
    started_s = f.time("started_s") if f.has("started_s") else None
    if started_s is None and trial.attempt is not None:
        started_s = trial.attempt.started_s
    return {"started_s": started_s, "ended_s": f.time("ended_s" if f.has("ended_s") else "t")}


def _with_attempt(trial: Trial, f: Fields, **changes: Any) -> Trial:
    attempt, number = trial.attempt, f.whole("attempt", 1, MOST)
    if attempt is None or attempt.number != number:
        raise StudyError(f"trial {trial.number} has no open attempt {number}")
    return replace(trial, attempts=(*trial.attempts[:-1], replace(attempt, **changes)))


CHANGES: dict[str, Callable[[Trial, Fields], Trial]] = {
    "intent": _intent,
    "submitted": _submitted,
    "started": _started,
    "observed": _observed,
    "cancel": _cancel,
    "ended": _ended,
    "finished": _finished,
    LATE: _late,
}
