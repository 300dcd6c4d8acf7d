"""A study: the list of trials that its journal tells, and the one way to add to it.

    journal.jsonl ──read_study()──▶ Study(header, trials)          anybody, at any time
    driver ──StudyWriter.write()──▶ journal.jsonl, then Study      one process, holding the lock

The journal is the truth; the trials are its replay, and nothing else is kept.  Which trials are
pending, which workers are busy, what was best: all of it is derived from ``Study.trials``.

=========  ==============================================================================
record     says
=========  ==============================================================================
study      id, space, settings of every training; always the first line
session    a driver was started: host, workers, dispatcher, how failures are read
asked      a trial: its params and where they came from
intent     attempt k of trial n is about to be submitted under this unique name
submitted  the batch system knows it as this job
started    its job was seen running
observed   a validation of its training
cancel     its job was asked to end
ended      the attempt is over without an outcome; the trial will go on in another one
finished   the trial is over: value, or why there is none
=========  ==============================================================================
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nodule_det.config.hpo import Failures
from nodule_det.errors import StudyError
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.journal import Journal, Record, read_journal
from nodule_det.hpo.study.trial import Attempt, Observation, Reason, Source, Trial, TrialState

SCHEMA = 1


class StudyFolder:
    """Owns every file name of a study."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser()  # which some shells leave to us

    journal = property(lambda self: self.path / "journal.jsonl")
    lock = property(lambda self: self.path / "driver.lock")
    queue = property(lambda self: self.path / "queue")
    trials = property(lambda self: self.path / "trials")
    report = property(lambda self: self.path / "report")

    def trial(self, number: int) -> Path:
        """Return the folder of a trial, which is the run folder of its training."""
        return self.path / "trials" / f"{number:04d}"

    def attempt(self, number: int, attempt: int) -> Path:
        """Return the folder of one job of a trial: its script, log and exit code."""
        return self.trial(number) / f"attempt_{attempt}"


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a study is, fixed when it is made."""

    id: str
    """Random; part of every job name."""
    space: Space
    train: tuple[str, ...] = ()
    """Overrides that every trial shares."""
    command: tuple[str, ...] = ()
    """Words of the training command, before the overrides."""
    created_s: float = 0.0

    def job_name(self, trial: int, attempt: int) -> str:
        """Return the unique name of a job, by which a batch system is asked for it."""
        return f"nd-{self.id}-{trial}-{attempt}"


@dataclass(frozen=True)
class Session:
    """One session of the driver."""

    host: str
    pid: int
    workers: int
    dispatcher: str
    started_s: float
    failures: Failures = Failures.model
    """What a training that ran out of memory or diverged taught."""
    place: str = ""
    """Name of the cluster or server, where it told one."""


class Study:
    """The replay of a journal."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.sessions: list[Session] = []
        self.problems: list[str] = []
        self._trials: dict[int, Trial] = {}
        self._highest = 0

    @property
    def space(self) -> Space:
        return self.header.space

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, by number."""
        return tuple(self._trials[n] for n in sorted(self._trials))

    @property
    def next_number(self) -> int:
        """Number of the next trial; a number whose record was lost is not used again."""
        return self._highest + 1

    def reserve(self, number: int) -> None:
        """Keep the number of a trial that no record tells of from being used again."""
        self._highest = max(self._highest, number)

    @property
    def pending(self) -> tuple[Trial, ...]:
        """Trials without an outcome: each holds a worker."""
        return tuple(t for t in self.trials if t.pending)

    @property
    def own(self) -> tuple[Trial, ...]:
        """Trials of this study: all but the imported ones."""
        return tuple(t for t in self.trials if t.source != Source.IMPORTED)

    @property
    def origins(self) -> set[str]:
        """Names of the queue's files that were taken in: none is taken twice."""
        return {t.origin for t in self.trials if t.origin}

    @property
    def n_counted(self) -> int:
        """Trials that count for the number asked for: none given up by a person, none refused."""
        return sum(t.reason not in (Reason.USER, Reason.REFUSED) for t in self.own)

    def trial(self, number: int) -> Trial:
        """Return one trial.

        Raises:
            StudyError: If there is none of this number.
        """
        if number not in self._trials:
            last = max(self._trials, default=0)
            raise StudyError(f"trial={number} is not in this study, which has 1 to {last}")
        return self._trials[number]

    def best(self) -> Trial | None:
        """Return the complete trial of the largest value, the earliest of equals."""
        complete = [t for t in self.trials if t.value is not None]
        return max(complete, key=lambda t: (t.value, -t.number)) if complete else None

    def node_seconds(self, now_s: float) -> float:
        """Sum the node time of all jobs of this study, running ones up to now."""
        running = [t.attempt for t in self.own if t.attempt is not None]
        return sum(t.seconds for t in self.own) + sum(
            max(0.0, now_s - a.started_s) for a in running if a.started_s is not None
        )

    def apply(self, record: Record) -> None:
        """Take in one record; one that contradicts what is known is reported and left out."""
        kind = record.get("kind", "")
        try:
            self._highest = max(self._highest, int(record.get("trial", 0)))
            if kind == "session":
                self.sessions.append(_session(record))
            elif kind == "asked":
                self._ask(record)
            elif kind in _CHANGES:
                trial = self._known_pending(record)
                self._trials[trial.number] = _CHANGES[kind](trial, record)
            else:
                raise StudyError(f"no kind of record is called {kind!r}")
        except (StudyError, KeyError, TypeError, ValueError) as error:
            self.problems.append(f"a record was left out ({error}): {record}")

    def _ask(self, record: Record) -> None:
        number = int(record["trial"])
        if number in self._trials:
            raise StudyError(f"trial {number} is there already")
        self._trials[number] = Trial(
            number=number,
            params=dict(record["params"]),
            source=record["source"],
            asked_s=record["t"],
            origin=record.get("origin"),
        )

    def _known_pending(self, record: Record) -> Trial:
        trial = self._trials.get(int(record["trial"]))
        if trial is None:
            raise StudyError(f"trial {record['trial']} was never asked for")
        if not trial.pending:
            raise StudyError(f"trial {trial.number} is {trial.state} already")
        return trial


def _session(record: Record) -> Session:
    return Session(
        host=record["host"],
        pid=int(record["pid"]),
        workers=int(record["workers"]),
        dispatcher=record["dispatcher"],
        started_s=record["t"],
        failures=Failures(record.get("failures", Failures.model.value)),
        place=record.get("place", ""),
    )


def _intent(trial: Trial, record: Record) -> Trial:
    if trial.attempt is not None:
        raise StudyError(f"trial {trial.number} has an open attempt already")
    attempt = Attempt(number=record["attempt"], name=record["name"], intent_s=record["t"])
    return replace(trial, attempts=(*trial.attempts, attempt))


def _submitted(trial: Trial, record: Record) -> Trial:
    return _with_attempt(trial, record, job=str(record["job"]), submitted_s=record["t"])


def _started(trial: Trial, record: Record) -> Trial:
    return _with_attempt(trial, record, started_s=record["started_s"])


def _observed(trial: Trial, record: Record) -> Trial:
    seen = Observation(int(record["epoch"]), float(record["value"]), record.get("se"))
    curve = [o for o in trial.curve if o.epoch != seen.epoch]
    return replace(trial, curve=tuple(sorted([*curve, seen], key=lambda o: o.epoch)))


def _cancel(trial: Trial, record: Record) -> Trial:
    return replace(trial, cancelling=Reason(record["reason"]))


def _ended(trial: Trial, record: Record) -> Trial:
    return _with_attempt(
        trial,
        record,
        reason=Reason(record["reason"]),
        **_times(trial, record),
    )


def _finished(trial: Trial, record: Record) -> Trial:
    reason = Reason(record["reason"]) if record.get("reason") else None
    if trial.attempt is not None:
        trial = _with_attempt(
            trial,
            {"attempt": trial.attempt.number},
            reason=reason,
            **_times(trial, record),
        )
    return replace(
        trial,
        state=TrialState(record["state"]),
        value=record.get("value"),
        value_se=record.get("value_se"),
        reason=reason,
        message=record.get("message"),
        peak_memory_bytes=record.get("peak_memory_bytes"),
        imported_seconds=record.get("imported_seconds"),
        finished_s=record["t"],
    )


def _times(trial: Trial, record: Record) -> dict[str, float | None]:
    """Return start and end of the open attempt: as its job wrote them, else as we saw them."""
    started_s = record.get("started_s")
    if started_s is None and trial.attempt is not None:
        started_s = trial.attempt.started_s
    ended_s = record.get("ended_s")
    return {"started_s": started_s, "ended_s": record["t"] if ended_s is None else ended_s}


def _with_attempt(trial: Trial, record: Mapping[str, Any], **changes: Any) -> Trial:
    attempt = trial.attempt
    if attempt is None or attempt.number != record["attempt"]:
        raise StudyError(f"trial {trial.number} has no open attempt {record['attempt']}")
    return replace(trial, attempts=(*trial.attempts[:-1], replace(attempt, **changes)))


_CHANGES: dict[str, Callable[[Trial, Record], Trial]] = {
    "intent": _intent,
    "submitted": _submitted,
    "started": _started,
    "observed": _observed,
    "cancel": _cancel,
    "ended": _ended,
    "finished": _finished,
}


def replay(records: tuple[Record, ...], path: Path) -> Study:
    """Rebuild a study from its records.

    Raises:
        StudyError: If the first record is not that of a study of a known format.
    """
    first = records[0] if records else {}
    if first.get("kind") != "study":
        raise StudyError(
            f"{path} does not begin with the record of a study; restore its first line"
        )
    if first.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has format {first.get('schema')}, this version reads {SCHEMA}; "
            "use the version of the package that wrote it"
        )
    study = Study(
        Header(
            id=first["id"],
            space=parse_space(first["space"]),
            train=tuple(first["train"]),
            command=tuple(first["command"]),
            created_s=first["t"],
        )
    )
    for record in records[1:]:
        study.apply(record)
    return study


def read_study(path: Path) -> Study:
    """Read a study for looking at it; works beside a running driver, and changes nothing."""
    journal = StudyFolder(path).journal
    reading = read_journal(journal)
    study = replay(reading.records, journal)
    study.problems[:0] = reading.problems
    return study


class StudyWriter:
    """The one process that adds to a study: a record is on the disk before it counts.

    Args:
        folder: The study's folder; its lock must be held.
        now: Clock, Unix seconds.
        header: Of a study that is to be made; None to go on with the one that is there.
    """

    def __init__(
        self, folder: StudyFolder, now: Callable[[], float], header: Header | None = None
    ) -> None:
        self.folder = folder
        self._now = now
        self._journal = Journal(folder.journal)
        if header is not None:
            self._journal.append(_header_record(header))
        self.study = read_study(folder.path)
        self.study.problems[:0] = self._journal.problems

    def write(self, kind: str, **fields: Any) -> None:
        """Add one fact to the journal, then to the study."""
        record = {"kind": kind, "t": round(self._now(), 3), **fields}
        self._journal.append(record)
        self.study.apply(record)

    def ask(self, params: Params, source: str, origin: str | None = None) -> int:
        """Add a trial; returns its number."""
        number = self.study.next_number
        fields = {"trial": number, "params": params, "source": source}
        self.write("asked", **fields, **({"origin": origin} if origin else {}))
        return number

    def start_session(
        self,
        workers: int,
        dispatcher: str,
        failures: Failures = Failures.model,
        place: str = "",
    ) -> None:
        """Note that a driver was started, where, and what later readers cannot know otherwise."""
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        how = {"workers": workers, "dispatcher": dispatcher, "failures": failures.value}
        self.write("session", **here, **how, place=place)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _header_record(header: Header) -> Record:
    return {
        "kind": "study",
        "t": header.created_s,
        "schema": SCHEMA,
        "id": header.id,
        "space": header.space.as_dict(),
        "train": list(header.train),
        "command": list(header.command),
    }
