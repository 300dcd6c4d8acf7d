"""A batch system in memory, with virtual time and scripted faults, for tests and simulations.

    driver ──submit()──▶ FakeDispatcher ──virtual time passes──▶ the files of a real job

It writes the files of real jobs (``claim``, ``metrics.jsonl``, ``result.json``, ``exit_code``), so
it works with the same driver that runs real studies.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import yaml

from nodule_det.errors import ExitCode
from nodule_det.files import append_jsonl
from nodule_det.hpo.dispatch.base import Explanation, Job, JobReport, JobState, Unavailable
from nodule_det.hpo.dispatch.pbs import PbsDispatcher
from nodule_det.hpo.driver.clock import VirtualClock
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import Observation
from nodule_det.runs import RunFolder, RunResult, RunStatus


@dataclass(frozen=True, kw_only=True)
class FakeRun:
    """One session of a simulated training."""

    seconds: float
    result: RunResult
    code: int = ExitCode.COMPLETE
    curve: tuple[Observation, ...] = ()
    """Validations, evenly spread over ``seconds``."""

    @classmethod
    def failed(cls, code: ExitCode, seconds: float) -> Self:
        """Return a training that fails with the reason of an exit code."""
        message = f"simulated: {code.reason}"
        result = RunResult(status=RunStatus.FAILED, reason=code.reason, message=message)
        return cls(seconds=seconds, result=result, code=code)


FakeTraining = Callable[[Params, int], FakeRun]
"""(overrides of the trial, number of the attempt) -> course of the job."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Scripted faults, by the number of the submission (from 0) or by virtual time."""

    answer_lost: frozenset[int] = frozenset()
    """The job was submitted, but the answer is lost."""
    never_arrived: frozenset[int] = frozenset()
    """The request is lost, so no job was submitted."""
    crash_after: Mapping[int, float] = field(default_factory=dict)
    """The node crashes after this fraction of the run and leaves nothing."""
    requeue_after: Mapping[int, float] = field(default_factory=dict)
    """The job returns to the queue after this fraction of the run, and starts again."""
    late: Mapping[int, float] = field(default_factory=dict)
    """The answer is lost, and the batch system lists the job only after this many seconds."""
    down: tuple[tuple[float, float], ...] = ()
    """Time spans in which the batch system does not answer."""
    silent: tuple[tuple[float, float], ...] = ()
    """Time spans in which polls succeed but list no job."""


@dataclass
class _FakeJob:
    id: str
    submission: int
    job: Job
    run: FakeRun
    overrides: Params
    known_s: float = 0.0
    """Time from which the batch system lists it."""
    start_s: float | None = None
    end_s: float = math.inf
    gone: bool = False
    cancelled: bool = False
    runs: int = 0
    """Number of starts."""
    validations: int = 0


class FakeDispatcher:
    """The simulated batch system; see the top of this file.

    Args:
        clock: Virtual time, which skips waits without events.
        training: Returns the course of a job.
        slots: Number of concurrent jobs; the others wait.
        queue_s: Seconds that every job waits before it may start.
        faults: Scripted faults.
    """

    COMMANDS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        clock: VirtualClock,
        training: FakeTraining,
        *,
        slots: int = 1_000_000,
        queue_s: float = 0.0,
        faults: Faults | None = None,
    ) -> None:
        self._clock = clock
        self._training = training
        self._slots = slots
        self._queue_s = queue_s
        self._faults = faults or Faults()
        self._jobs: dict[str, _FakeJob] = {}
        self._open: list[_FakeJob] = []
        self._submissions = 0
        self._steady = True
        """Whether the driver only waits for events, not for another poll or the server."""
        self.starts: dict[str, int] = {}
        """Number of starts of each job by name, which tests check."""
        self.busy_s = 0.0
        """Total run time of all jobs."""
        clock.next_event = self._next_event

    def submit(self, job: Job) -> str:
        """Queue a job; see :class:`Dispatcher`."""
        self._answer()
        number, self._submissions = self._submissions, self._submissions + 1
        if number in self._faults.never_arrived:
            raise Unavailable(f"{job.name}: connection lost on the way")
        overrides = read_overrides(job.folder.parent)
        attempt = int(job.name.rsplit("-", 1)[1])
        run = self._training(overrides, attempt)
        fake = _FakeJob(f"{number + 1}.fake", number, job, run, overrides)
        fake.known_s = self._clock.monotonic() + self._faults.late.get(number, 0.0)
        fake.end_s = fake.known_s + self._queue_s  # earliest start, while it waits
        self._jobs[fake.id] = fake
        self._open.append(fake)
        self._advance()
        if number in self._faults.answer_lost or number in self._faults.late:
            self._steady = False
            raise Unavailable(f"{job.name}: connection lost on the way back")
        return fake.id

    def find(self, job: Job) -> str | None:
        """Find a job by name; see :class:`Dispatcher`."""
        self._answer()
        known = [j for j in self._jobs.values() if j.known_s <= self._clock.monotonic()]
        return next((j.id for j in known if j.job.name == job.name), None)

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Report on jobs; see :class:`Dispatcher`."""
        self._answer()
        self._steady = not any(self._jobs[i].gone for i in ids if i in self._jobs)
        if _within(self._clock.monotonic(), self._faults.silent):
            return {}
        return {i: JobReport(self._state(self._jobs[i])) for i in ids if i in self._jobs}

    def cancel(self, ids: Sequence[str]) -> str:
        """End jobs now, without a result; see :class:`Dispatcher`."""
        self._answer()
        now = self._clock.monotonic()
        for job in (self._jobs[i] for i in ids):
            if not job.gone:
                job.cancelled = True
                self._leave(job, now)
        self._advance()
        return ""

    def preview(self, job: Job) -> str:
        """Return a made-up command; see :class:`Dispatcher`."""
        return f"fake-submit {job.folder}"

    def place(self) -> str:
        """Return an empty name; see :class:`Dispatcher`."""
        return ""

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return True; see :class:`Dispatcher`."""
        return True

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare ids; see :class:`Dispatcher`."""
        return one == other

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return a made-up command; see :class:`Dispatcher`."""
        return f"fake-cancel {job_id}"

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Search for messages of PBS and Slurm; see :class:`Dispatcher`."""
        return PbsDispatcher.explain(log, comment)

    def _answer(self) -> None:
        self._advance()
        if _within(self._clock.monotonic(), self._faults.down):
            self._steady = False
            raise Unavailable("the batch system does not answer")

    @staticmethod
    def _state(job: _FakeJob) -> JobState:
        if job.gone:
            return JobState.GONE
        return JobState.QUEUED if job.start_s is None else JobState.RUNNING

    def _next_event(self) -> float | None:
        """Return the time of the next start, validation or end; None if no wait may be skipped."""
        self._advance()
        if not self._steady:
            return None
        full = sum(j.start_s is not None for j in self._open) >= self._slots
        coming = [j for j in self._open if j.start_s is not None or not full]
        return min(map(self._event_of, coming), default=None)

    def _event_of(self, job: _FakeJob) -> float:
        if job.start_s is None:
            return job.end_s
        n = len(job.run.curve)
        if job.validations < n:
            share = (job.validations + 1) / n
            return min(job.end_s, job.start_s + share * job.run.seconds)
        return job.end_s

    def _advance(self) -> None:
        """Process all events that are due, in order."""
        now = self._clock.monotonic()
        while True:
            running = [j for j in self._open if j.start_s is not None]
            waiting = [j for j in self._open if j.start_s is None]
            due = [j for j in running if self._event_of(j) <= now]
            if len(running) < self._slots:
                due += [j for j in waiting if j.end_s <= now]
            if not due:
                return
            job = min(due, key=lambda j: (self._event_of(j), j.submission))
            self._happen(job, self._event_of(job))

    def _happen(self, job: _FakeJob, at_s: float) -> None:
        if job.start_s is None:
            self._start(job, at_s)
        elif job.validations < len(job.run.curve) and at_s < job.end_s:
            self._validate(job)
        else:
            self._end(job)

    def _start(self, job: _FakeJob, at_s: float) -> None:
        free_s = max((j.end_s for j in self._jobs.values() if j.gone), default=0.0)
        full = sum(j.start_s is not None for j in self._open) + 1 >= self._slots
        claim = job.job.folder / "claim"
        taken = claim.exists() and claim.read_text(encoding="utf-8").split()[0] != job.id
        if taken or not job.job.folder.is_dir():
            self._leave(
                job, at_s
            )  # as submit_pbs.sh does: claimed by another job, closed or packed
            return
        job.start_s = max(at_s, free_s) if full else at_s
        job.runs += 1
        job.validations = 0
        share = 1.0
        if job.runs == 1:
            crash = self._faults.crash_after.get(job.submission, 1.0)
            share = min(crash, self._faults.requeue_after.get(job.submission, 1.0))
        job.end_s = job.start_s + share * job.run.seconds
        self.starts[job.job.name] = self.starts.get(job.job.name, 0) + 1
        claim.write_text(f"{job.id} node {self._unix(job.start_s)}\n", encoding="utf-8")

    def _validate(self, job: _FakeJob) -> None:
        seen = job.run.curve[job.validations]
        job.validations += 1
        row = {"kind": "validation", "epoch": seen.epoch, "pauc": seen.value, "pauc_se": seen.se}
        append_jsonl(RunFolder(job.job.folder.parent).metrics, row)

    def _end(self, job: _FakeJob) -> None:
        first = job.runs == 1
        if first and job.submission in self._faults.requeue_after:
            self.busy_s += job.end_s - (job.start_s or 0.0)
            job.start_s = None
            job.end_s += self._queue_s
        elif first and job.submission in self._faults.crash_after:
            self._leave(job, job.end_s)
        else:
            while job.validations < len(job.run.curve):
                self._validate(job)
            _write(RunFolder(job.job.folder.parent).result, job.run.result)
            code = f"{job.run.code} {self._unix(job.end_s)}\n"
            (job.job.folder / "exit_code").write_text(code, encoding="utf-8")
            self._leave(job, job.end_s)

    def _leave(self, job: _FakeJob, at_s: float) -> None:
        if job.start_s is not None:
            self.busy_s += at_s - job.start_s
        job.end_s = at_s
        job.gone = True
        self._open.remove(job)

    def _unix(self, monotonic_s: float) -> float:
        return self._clock.now() - (self._clock.monotonic() - monotonic_s)


def read_overrides(trial_dir: Path) -> Params:
    """Read the values of the overrides of a trial, including ``run_dir``."""
    lines = (trial_dir / "overrides.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=")[::2] for line in lines)
    return {name: _value(text) for name, text in pairs}


def _value(text: str) -> bool | int | float | str:
    if "e" in text:
        try:
            return float(text)  # YAML 1.1 reads 1e-05 as text
        except ValueError:
            pass  # text that contains an e
    value: bool | int | float | str = yaml.safe_load(text)
    return value


def _write(path: Path, result: RunResult) -> None:
    path.write_text(json.dumps(result.as_dict()), encoding="utf-8")


def _within(time_s: float, spans: Sequence[tuple[float, float]]) -> bool:
    return any(start <= time_s < end for start, end in spans)
