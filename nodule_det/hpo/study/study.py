"""A study: the trials that its journal describes, and the only way to add to it.

    journal.jsonl ──read_study()──▶ Study(header, trials)          any process, at any time
    driver ──StudyWriter.write()──▶ journal.jsonl, then Study      one process, holding the lock

The journal is the only source of truth, and the trials are its replay.  Which trials are pending,
which workers are busy and which value is the best is derived from ``Study.trials``.

=========  ==============================================================================
record     meaning
=========  ==============================================================================
study      id, space, objective, constraints and settings of every training; the first line
session    a driver was started: host, folder, workers, dispatcher, how failures are used
copied     the study is a copy and has a new id, which distinguishes its jobs from the original's
asked      a new trial: its parameters and their source
intent     attempt k of trial n is about to be submitted under this unique name
submitted  the batch system accepted it as this job
started    its job was seen running
observed   a validation of its training
cancel     its job is being cancelled
ended      the attempt ended without an outcome; the trial continues in another attempt
finished   the trial has finished: its value, or why there is none
late       the value of a trial that had failed: a job counted as lost completed after all
=========  ==============================================================================

A record that contradicts the others, or has an impossible value, is skipped and reported in
``Study.problems``.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nodule_det.config.hpo import Direction, Failures
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.journal import Journal, Record, read_journal
from nodule_det.hpo.study.objective import LARGEST, PAUC, Constraint, Objective
from nodule_det.hpo.study.replay import CHANGES, FILE_NAME, LATE, MOST, Fields, read_session
from nodule_det.hpo.study.trial import Reason, Session, Source, Trial, TrialState
from nodule_det.untrusted import printable

SCHEMA = 1
STUDY_ID = re.compile(r"[\w-]{1,40}", re.ASCII)
LONGEST_NAME = 15
"""Longest name of a job that Torque and older versions of PBS accept and show whole."""
LARGEST_GAP = 100_000
"""Largest gap in the numbers of trials, where the records in between were lost."""


class StudyFolder:
    """Owns every file name of a study."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser()  # some shells leave ~ alone after an equals sign

    @property
    def journal(self) -> Path:
        """The journal, which makes a folder a study."""
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """The lock file of the driver."""
        return self.path / "driver.lock"

    @property
    def queue(self) -> Path:
        """Folder of points, results and cancellations that the driver has not read yet."""
        return self.path / "queue"

    @property
    def trials(self) -> Path:
        """Folder of the trials' folders."""
        return self.path / "trials"

    @property
    def report(self) -> Path:
        """Default folder of the report."""
        return self.path / "report"

    def trial(self, number: int) -> Path:
        """Return the folder of a trial, which is the run folder of its training."""
        return self.path / "trials" / f"{number:04d}"

    def attempt(self, number: int, attempt: int) -> Path:
        """Return the folder of one job of a trial: its script, log and exit code."""
        return self.trial(number) / f"attempt_{attempt}"


@dataclass(frozen=True, kw_only=True)
class Header:
    """Identity and settings of a study, fixed when it is created."""

    id: str
    """Random; part of every job name."""
    space: Space
    train: tuple[str, ...] = ()
    """Overrides that every trial shares."""
    command: tuple[str, ...] = ()
    """Arguments of the training command, before the overrides."""
    objective: Objective = PAUC
    created_s: float = 0.0

    def job_name(self, trial: int, attempt: int) -> str:
        """Return the unique name of a job, by which the batch system can find it.

        A name that would be too long has hexadecimal numbers and no first hyphen, so it differs
        from all others.
        """
        name = f"nd-{self.id}-{trial}-{attempt}"
        return name if len(name) <= LONGEST_NAME else f"nd{self.id}-{trial:x}-{attempt:x}"


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
        """The search space."""
        return self.header.space

    @property
    def objective(self) -> Objective:
        """The number that is optimised."""
        return self.header.objective

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials, by number."""
        return tuple(self._trials[n] for n in sorted(self._trials))

    @property
    def next_number(self) -> int:
        """Number of the next trial.  A number whose record was lost is not used again."""
        return self._highest + 1

    def reserve(self, number: int) -> None:
        """Prevent the reuse of a trial number, even if that trial has no record.

        Raises:
            StudyError: If it is too far beyond the others to be a trial of this study.
        """
        if number > self._highest + LARGEST_GAP:
            raise StudyError(f"trial={number} is too far beyond trial {self._highest}")
        self._highest = max(self._highest, number)

    @property
    def pending(self) -> tuple[Trial, ...]:
        """Trials without an outcome.  Each occupies a worker."""
        return tuple(t for t in self.trials if t.pending)

    @property
    def has_jobs(self) -> bool:
        """Whether a batch system has ever accepted a job of this study."""
        return any(a.job is not None for t in self.own for a in t.attempts)

    @property
    def own(self) -> tuple[Trial, ...]:
        """Trials of this study: all but the imported ones."""
        return tuple(t for t in self.trials if t.source != Source.IMPORTED)

    @property
    def origins(self) -> set[str]:
        """Names of the queue files that were used, so that none is used twice."""
        return {t.origin for t in self.trials if t.origin}

    @property
    def n_counted(self) -> int:
        """Trials that count towards the goal: not those cancelled by a user or refused."""
        return sum(t.reason not in (Reason.USER, Reason.REFUSED) for t in self.own)

    def trial(self, number: int) -> Trial:
        """Return one trial.

        Raises:
            StudyError: If there is no trial with this number.
        """
        if number not in self._trials:
            last = max(self._trials, default=0)
            raise StudyError(f"trial={number} is not in this study, which has 1 to {last}")
        return self._trials[number]

    def best(self) -> Trial | None:
        """Return the complete trial with the best value, the earliest one of a tie."""
        complete = [t for t in self.trials if t.value is not None]
        return max(complete, key=lambda t: (t.value, -t.number)) if complete else None

    def node_seconds(self, now_s: float) -> float:
        """Sum the run time of all jobs of this study, running ones up to now."""
        running = [t.attempt for t in self.own if t.attempt is not None]
        return sum(t.seconds for t in self.own) + sum(
            max(0.0, now_s - a.started_s) for a in running if a.started_s is not None
        )

    def apply(self, record: Record) -> None:
        """Apply one record.  An impossible one is skipped and reported in ``problems``."""
        fields = Fields(record, self.objective)
        try:
            kind = fields.text("kind")
            if kind == "session":
                self.sessions.append(read_session(fields))
                return
            if kind == "copied":
                self.header = replace(self.header, id=fields.matching("id", STUDY_ID))
                return
            number = fields.whole("trial", 1, MOST)
            self.reserve(number)
            if kind == "asked":
                self._ask(number, fields)
            elif kind in CHANGES:
                self._trials[number] = CHANGES[kind](self._known(number, kind), fields)
            else:
                raise StudyError(f"kind={kind} is unknown")
        except (StudyError, ConfigError) as error:
            shown = printable(str(record), 200)
            self.problems.append(printable(f"ignored a journal record: {error}: {shown}"))

    def _ask(self, number: int, fields: Fields) -> None:
        if number in self._trials:
            raise StudyError(f"trial {number} already exists")
        params = fields.record.get("params")
        if not isinstance(params, dict):
            raise StudyError("params must map names to values")
        self._trials[number] = Trial(
            number=number,
            params=self.space.check(params),
            source=fields.text("source"),
            asked_s=fields.time("t"),
            origin=fields.matching("origin", FILE_NAME) if fields.has("origin") else None,
        )

    def _known(self, number: int, kind: str) -> Trial:
        trial = self._trials.get(number)
        if trial is None:
            raise StudyError(f"trial {number} has no record of kind asked")
        changes = trial.state is TrialState.FAILED if kind == LATE else trial.pending
        if not changes:
            raise StudyError(f"trial {number} is already {trial.state}")
        return trial


def replay(records: tuple[Record, ...], path: Path) -> Study:
    """Rebuild a study from its records.

    Raises:
        StudyError: If the first record is not a study record of a known format.
    """
    first = records[0] if records else {}
    if first.get("kind") != "study":
        raise StudyError(
            f"{path} does not begin with a record of kind study; restore its first line"
        )
    if first.get("schema") != SCHEMA:
        raise StudyError(
            f"{path} has format {printable(str(first.get('schema')), 40)}, but this version reads "
            f"{SCHEMA}; use the nodule_det version that wrote it"
        )
    try:
        study = Study(_header(first))
    except (StudyError, ConfigError) as error:
        raise StudyError(
            printable(f"the first line of {path} is damaged: {error}; restore it")
        ) from None
    for record in records[1:]:
        study.apply(record)
    return study


def _header(record: Record) -> Header:
    fields = Fields(record, PAUC)
    direction = record.get("direction", Direction.maximize.value)
    if direction not in [d.value for d in Direction]:
        raise StudyError(f"direction={direction} must be maximize or minimize")
    name = fields.text("objective") if fields.has("objective") else PAUC.name
    return Header(
        id=fields.matching("id", STUDY_ID),
        space=parse_space(record.get("space")),
        train=_words(record, "train"),
        command=_words(record, "command"),
        objective=Objective(name, Direction(direction), _constraints(record)),
        created_s=fields.time("t"),
    )


def _constraints(record: Record) -> tuple[Constraint, ...]:
    found = record.get("constraints", [])
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        raise StudyError("constraints must be a list of mappings")
    constraints = []
    for c in found:
        fields = Fields(c, PAUC)
        low, high = (
            fields.number(key, -LARGEST, LARGEST) if fields.has(key) else None
            for key in ("min", "max")
        )
        constraints.append(Constraint(fields.text("name"), low, high))
    return tuple(constraints)


def _words(record: Record, key: str) -> tuple[str, ...]:
    words = record.get(key)
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise StudyError(f"{key} must be a list of texts")
    return tuple(words)


def read_study(path: Path) -> Study:
    """Read a study without changing it.  Works while the driver runs.

    Raises:
        StudyError: If the folder is not a study, or its first line is damaged.
    """
    journal = StudyFolder(path).journal
    reading = read_journal(journal)
    study = replay(reading.records, journal)
    study.problems[:0] = reading.problems
    return study


def previous_folder(study: Study, here: Path) -> Path | None:
    """Return the folder where a driver last ran the study, if it is not ``here``."""
    known = [s.folder for s in study.sessions if s.folder]
    return Path(known[-1]) if known and not _is_same_folder(Path(known[-1]), here) else None


def original_of(study: Study, here: Path) -> Path | None:
    """Return the folder of which ``here`` is a copy: the jobs belong to that one."""
    before = previous_folder(study, here)
    try:
        is_there = before is not None and read_study(before).header.id == study.header.id
    except (StudyError, OSError):
        return None
    return before if is_there else None


def _is_same_folder(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:  # does not exist, or is not visible from this machine
        return False


class StudyWriter:
    """The only writer of a study: a record is on the disk before it takes effect.

    Args:
        folder: The study's folder; its lock must be held.
        now: Clock, Unix seconds.
        header: Header of a new study; None to continue the existing one.
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
        """Add one record to the journal, then to the study."""
        record = {"kind": kind, "t": round(self._now(), 3), **fields}
        self._journal.append(record)
        self.study.apply(record)

    def ask(self, params: Params, source: str, origin: str | None = None) -> int:
        """Add a trial and return its number."""
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
        """Record that a driver was started, where, and how it uses failures."""
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        how = {"workers": workers, "dispatcher": dispatcher, "failures": failures.value}
        self.write("session", **here, **how, place=place, folder=str(self.folder.path))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


def _header_record(header: Header) -> Record:
    constraints = header.objective.constraints
    return {
        "kind": "study",
        "t": header.created_s,
        "schema": SCHEMA,
        "id": header.id,
        "space": header.space.as_dict(),
        "train": list(header.train),
        "command": list(header.command),
        "objective": header.objective.name,
        "direction": header.objective.direction.value,
        **({"constraints": [c.as_dict() for c in constraints]} if constraints else {}),
    }
