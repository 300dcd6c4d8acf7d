"""The asynchronous loop: read, collect, ask, dispatch, sleep.

    ┌▶ queue folder ─▶ result files ─▶ one poll ─▶ early stopping ─▶ free worker? propose, submit ┐
    └───────────────────────────────── sleep ◀──────────────────────────────────────────────────┘

Nothing is remembered between two steps but the journal's replay, so a driver that was killed at any
moment goes on where it was.  The rules that make every job run exactly once:

1. the intent to submit, with a unique job name, is on the disk before the submission;
2. an intent without an answer is settled by asking for the name before anything is submitted again;
3. a job claims its folder when it starts, so even a job submitted twice runs once;
4. only files that the job wrote say how it ended; the batch system only says that it is gone;
5. no answer, or an answer that does not mention a job, changes nothing.

Time is an argument, and so is the batch system: simulations run this very code.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, HpoConfig
from nodule_det.errors import StudyError
from nodule_det.hpo import objective, queue
from nodule_det.hpo.baselines import Propose
from nodule_det.hpo.clock import Clock
from nodule_det.hpo.dispatch.job import (
    Dispatcher,
    Job,
    JobReport,
    JobState,
    Refused,
    Unavailable,
    read_claim,
    read_exit,
    same_job,
)
from nodule_det.hpo.space import Params
from nodule_det.hpo.stopping import should_stop
from nodule_det.hpo.study import IMPORTED, Study, StudyWriter
from nodule_det.hpo.trial import Attempt, Reason, Trial, TrialState

FIRST = "first"
USER = "user"
LONGEST_WAIT_S = 600.0
"""Between two questions to a batch system that does not answer."""
CANCEL_AGAIN_S = 300.0
"""After this time without effect a job is asked to end once more."""
FAILURES_AT_START = 3
"""Trainings that end in an error, one after the other before any succeeds, end the driver: it is
the setup, not the point."""
FAILURES_IN_A_ROW = 10
"""The same once some have succeeded: a node without the data would eat the whole study."""
REFUSALS = 10
"""Refusals in a row that are borne by a study whose jobs were accepted before."""
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENFILE}
"""Troubles of a file system that may pass: full, over quota, server away."""


@dataclass
class Notes:
    """What the driver remembers of this sitting only; all of it may be lost."""

    gone_since: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)
    """First time and number of polls that called an attempt's job gone."""
    cancelled_at: dict[int, float] = field(default_factory=dict)
    reports: dict[int, JobReport] = field(default_factory=dict)
    """The last report of each pending trial, for the table."""
    told: set[str] = field(default_factory=set)
    troubles: int = 0
    """Steps in a row that ended without an answer."""
    refusals: int = 0
    accepted: bool = False
    failures: int = 0
    """Trainings that failed by an error since the last good one."""


class Driver:
    """Runs a study until its trials or its node hours are used up.

    Args:
        writer: The study, its lock held.
        dispatcher: The batch system.
        propose: Chooses the next point from the list of trials.
        config: Workers, limits, retries, stopping.
        clock: Time.
        workdir: Folder in which the trainings start, against which their paths are read.
        say: Takes one line for people about each event.
    """

    def __init__(
        self,
        writer: StudyWriter,
        dispatcher: Dispatcher,
        propose: Propose,
        config: HpoConfig,
        clock: Clock,
        workdir: Path,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._writer = writer
        self._dispatcher = dispatcher
        self._propose = propose
        self._config = config
        self._clock = clock
        self._workdir = workdir
        self._say = say
        self.notes = Notes()
        self.stopping = False
        """Set to cancel every job and ask for no more."""

    @property
    def study(self) -> Study:
        return self._writer.study

    def run(
        self,
        interrupted: Callable[[], bool] = lambda: False,
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Step until everything is done; returns False if it was interrupted before."""
        while not self.done():
            if interrupted():
                return False
            before_step()
            wait_s = self.try_step()
            after_step()
            if not self.done():
                self._clock.sleep(wait_s)
        return True

    def done(self) -> bool:
        """Whether no trial is pending and none is to be asked for."""
        return not self.study.pending and not self._may_ask()

    def try_step(self) -> float:
        """Do one step; returns how long to wait for the next, longer after a trouble that passes.

        Raises:
            StudyError, DispatchError, ConfigError: What waiting would not cure.
        """
        try:
            self.step()
        except (Unavailable, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _PASSING:
                raise
            self.notes.troubles += 1
            wait_s = min(
                LONGEST_WAIT_S, self._config.dispatcher.poll_s * 2.0 ** min(self.notes.troubles, 20)
            )
            where = f" ({self._writer.folder.path})" if isinstance(error, OSError) else ""
            self._say(f"waiting {wait_s:g} s: {error}{where}")
            return wait_s
        self.notes.troubles = 0
        return self._config.dispatcher.poll_s

    def step(self) -> None:
        """Do everything that can be done now."""
        self._take_queue()
        self._collect_finished()
        self._poll()
        if self.stopping:
            self._cancel_all()
        self._stop_early()
        self._send_cancellations()
        self._check_setup()
        self._fill_workers()

    # ---- what has happened

    def _take_queue(self) -> None:
        known = {t.origin for t in self.study.trials}
        for entry in queue.read_queue(self._writer.folder.queue, self.study.space):
            if entry.error:
                self._say_once(entry.error)
                continue
            if entry.path.name not in known and entry.params is not None:
                self._take(entry)
            entry.path.unlink()

    def _take(self, entry: queue.Entry) -> None:
        assert entry.params is not None
        if entry.result is None:
            number = self._writer.ask(entry.params, USER, entry.path.name)
            self._say(f"trial {number} taken from the queue")
            return
        number = self._writer.ask(entry.params, IMPORTED, entry.path.name)
        self._writer.write("finished", trial=number, **entry.result)

    def _collect_finished(self) -> None:
        """Conclude every attempt whose job has written its exit code."""
        for trial, attempt in self._open_attempts():
            folder = self._folder(trial, attempt)
            if attempt.started_s is None and (claim := read_claim(folder)) is not None:
                self._note_start(trial, attempt, claim.started_s)
            if read_exit(folder) is not None:
                self._conclude(trial.number)

    def _poll(self) -> None:
        """Ask for all jobs at once, then settle the intents whose job is not known."""
        attempts = [(t, a) for t, a in self._open_attempts() if a.job is not None]
        reports = self._dispatcher.poll([a.job for _, a in attempts if a.job is not None])
        self.notes.reports = {
            t.number: reports[a.job] for t, a in attempts if a.job is not None and a.job in reports
        }
        for trial, attempt in attempts:
            report = self.notes.reports.get(trial.number)
            if report is not None:
                self._take_report(trial, attempt, report)
        for trial, attempt in self._open_attempts():
            if attempt.job is None:
                self._settle(trial, attempt)

    def _take_report(self, trial: Trial, attempt: Attempt, report: JobReport) -> None:
        key = (trial.number, attempt.number)
        if report.state is not JobState.GONE:
            self.notes.gone_since.pop(key, None)
            if report.state is JobState.RUNNING and attempt.started_s is None:
                claim = read_claim(self._folder(trial, attempt))
                self._note_start(trial, attempt, claim.started_s if claim else self._clock.now())
            if report.hopeless:
                self._say_once(
                    f"job {attempt.job} of trial {trial.number} waits in vain: {report.comment}"
                )
            return
        folder = self._folder(trial, attempt)
        claim = read_claim(folder)
        if claim is not None and attempt.job is not None and not same_job(claim.job, attempt.job):
            # Two submissions of one attempt, after a lost answer: the other one runs it.
            self._submitted(trial, attempt, claim.job)
            return
        first, polls = self.notes.gone_since.get(key, (self._clock.monotonic(), 0))
        self.notes.gone_since[key] = (first, polls + 1)
        waited_s = self._clock.monotonic() - first
        settled = polls >= 1 and waited_s >= self._config.dispatcher.grace_s
        if read_exit(folder) is not None or trial.cancelling or settled:
            self._conclude(trial.number)

    def _settle(self, trial: Trial, attempt: Attempt) -> None:
        """Find out what became of a submission whose answer is not known; submit if nothing did."""
        job = self._job(trial, attempt)
        claim = read_claim(job.folder)
        known = claim.job if claim is not None else self._dispatcher.find(job)
        if known is not None:
            self._submitted(trial, attempt, known)
        elif trial.cancelling:
            self._finish(trial, TrialState.CANCELLED, trial.cancelling)
        else:
            self.write_job(trial, job)  # the settings of the dispatcher may have been corrected
            self._submit(trial, attempt)

    def _note_start(self, trial: Trial, attempt: Attempt, started_s: float) -> None:
        self._writer.write(
            "started", trial=trial.number, attempt=attempt.number, started_s=started_s
        )

    def _conclude(self, number: int) -> None:
        """Take in what a job that is over has left."""
        self._observe(self.study.trial(number))
        trial = self.study.trial(number)
        attempt = trial.attempt
        assert attempt is not None
        outcome = objective.read_outcome(self._run_dir(trial), self._folder(trial, attempt))
        times = {"started_s": outcome.started_s, "ended_s": outcome.ended_s}
        self.notes.gone_since.pop((number, attempt.number), None)
        if outcome.reason is None:
            self.notes.failures = 0
            self._writer.write(
                "finished",
                trial=number,
                state=TrialState.COMPLETE,
                value=outcome.value,
                value_se=outcome.value_se,
                peak_memory_bytes=outcome.peak_memory_bytes,
                **times,
            )
            self._say(f"trial {number} complete: {outcome.value:.4f}")
        elif trial.cancelling:
            self._finish(trial, TrialState.CANCELLED, trial.cancelling, **times)
        elif self._may_retry(trial, outcome.reason):
            if outcome.reason is Reason.ERROR:
                objective.put_away_failure(self._run_dir(trial), self._folder(trial, attempt))
            fields = {"trial": number, "attempt": attempt.number, "reason": outcome.reason}
            self._writer.write("ended", **fields, **times)
            self._say(f"trial {number} {outcome.reason} in attempt {attempt.number}; goes on")
        else:
            if outcome.reason in (Reason.ERROR, Reason.BAD_INPUT):
                self.notes.failures += 1
            peak = {"peak_memory_bytes": outcome.peak_memory_bytes}
            self._finish(
                trial, TrialState.FAILED, outcome.reason, message=outcome.message, **peak, **times
            )

    def _may_retry(self, trial: Trial, reason: Reason) -> bool:
        limits = self._config.retries
        limit = {
            Reason.LOST: limits.lost,
            Reason.KILLED: limits.killed,
            Reason.ERROR: limits.error,
            Reason.STOPPED: limits.stopped,
        }.get(reason, 0)
        return sum(a.reason is reason for a in trial.attempts) < limit

    def _finish(self, trial: Trial, state: TrialState, reason: Reason, **fields: object) -> None:
        self._writer.write("finished", trial=trial.number, state=state, reason=reason, **fields)
        message = f": {fields['message']}" if fields.get("message") else ""
        self._say(f"trial {trial.number} {state}: {reason}{message}")

    # ---- what is to be ended

    def _observe(self, trial: Trial) -> None:
        """Note the validations of a trial that are new."""
        seen = {o.epoch for o in trial.curve}
        for o in objective.read_curve(self._run_dir(trial)):
            if o.epoch not in seen:
                fields = {"epoch": o.epoch, "value": o.value, "se": o.se}
                self._writer.write("observed", trial=trial.number, **fields)
                seen.add(o.epoch)

    def _stop_early(self) -> None:
        if not self._config.stopping.on:
            return
        for trial, attempt in self._open_attempts():
            if attempt.started_s is not None and not trial.cancelling:
                self._observe(trial)
                trial = self.study.trial(trial.number)
                if should_stop(trial, self.study.trials, self._config.stopping):
                    self._cancel(trial, Reason.EARLY_STOPPED)

    def _cancel_all(self) -> None:
        for trial in self.study.pending:
            if not trial.cancelling:
                self._cancel(trial, Reason.USER)

    def _cancel(self, trial: Trial, reason: Reason) -> None:
        self._writer.write("cancel", trial=trial.number, reason=reason)
        self._say(f"trial {trial.number} is cancelled: {reason}")

    def _send_cancellations(self) -> None:
        """Ask for the end of cancelled jobs; their workers are free once they are gone."""
        now = self._clock.monotonic()
        ids = []
        for trial in self.study.pending:
            if not trial.cancelling:
                continue
            if trial.attempt is None:
                self._finish(trial, TrialState.CANCELLED, trial.cancelling)
            elif trial.attempt.job is not None:
                sent = self.notes.cancelled_at.get(trial.number)
                if sent is None or now - sent >= CANCEL_AGAIN_S:
                    ids.append(trial.attempt.job)
                    self.notes.cancelled_at[trial.number] = now
        if ids:
            self._dispatcher.cancel(ids)

    # ---- what is to be started

    def _check_setup(self) -> None:
        worked = any(t.state is TrialState.COMPLETE for t in self.study.own)
        if self.notes.failures < (FAILURES_IN_A_ROW if worked else FAILURES_AT_START):
            return
        failed = [t for t in self.study.trials if t.state is TrialState.FAILED][-1]
        raise StudyError(
            f"the last {self.notes.failures} trainings all ended in an error"
            f"{'' if worked else ' and none ever succeeded'}: the setup or a node is wrong, not "
            f"the point.  Trial {failed.number}: {failed.reason}, {failed.message}; see "
            f"{self._run_dir(failed)}.  Then start the same command again"
        )

    def _may_ask(self) -> bool:
        if self.stopping:
            return False
        counted = [t for t in self.study.own if t.reason is not Reason.USER]
        limit_s = self._config.node_hours * 3600
        used_up = limit_s > 0 and self.study.node_seconds(self._clock.now()) >= limit_s
        return len(counted) < self._config.trials and not used_up

    def _fill_workers(self) -> None:
        """Give every free worker the oldest trial that waits, else a new one."""
        free = self._config.workers - len(self._open_attempts())
        waiting = [t for t in self.study.pending if t.attempt is None]
        while free > 0 and (waiting or self._may_ask()):
            trial = waiting.pop(0) if waiting else self.study.trial(self._ask())
            self._intend_and_submit(trial)
            free -= 1

    def _ask(self) -> int:
        params, source = next_point(self.study, self._propose, self._config.acquisition)
        return self._writer.ask(params, source)

    def _intend_and_submit(self, trial: Trial) -> None:
        number = len(trial.attempts) + 1
        name = self.study.header.job_name(trial.number, number)
        folder = self._writer.folder.attempt(trial.number, number)
        self.write_job(trial, Job(name, folder))
        self._writer.write("intent", trial=trial.number, attempt=number, name=name)
        trial = self.study.trial(trial.number)
        assert trial.attempt is not None
        self._submit(trial, trial.attempt)

    def _submit(self, trial: Trial, attempt: Attempt) -> None:
        try:
            job_id = self._dispatcher.submit(self._job(trial, attempt))
        except Refused as error:
            self.notes.refusals += 1
            if not self.notes.accepted or self.notes.refusals >= REFUSALS:
                raise
            raise Unavailable(str(error)) from error
        self.notes.refusals, self.notes.accepted = 0, True
        self._submitted(trial, attempt, job_id)

    def _submitted(self, trial: Trial, attempt: Attempt, job_id: str) -> None:
        fields = {"attempt": attempt.number, "job": job_id}
        self._writer.write("submitted", trial=trial.number, **fields)

    def write_job(self, trial: Trial, job: Job) -> None:
        """Write the folder of a job."""
        header, config = self.study.header, self._config.dispatcher
        words = objective.command_words(
            header.command, header.train, trial.params, self._run_dir(trial), config
        )
        objective.write_job(job, words, config, self._workdir)

    # ---- names

    def _open_attempts(self) -> list[tuple[Trial, Attempt]]:
        return [(t, t.attempt) for t in self.study.pending if t.attempt is not None]

    def _job(self, trial: Trial, attempt: Attempt) -> Job:
        return Job(attempt.name, self._folder(trial, attempt))

    def _folder(self, trial: Trial, attempt: Attempt) -> Path:
        return self._writer.folder.attempt(trial.number, attempt.number)

    def _run_dir(self, trial: Trial) -> Path:
        return self._writer.folder.trial(trial.number)

    def _say_once(self, text: str) -> None:
        if text not in self.notes.told:
            self.notes.told.add(text)
            self._say(text)


def next_point(study: Study, propose: Propose, config: AcquisitionConfig) -> tuple[Params, str]:
    """Choose the next point: the given first ones, then what ``propose`` says; and its source."""
    n_first = sum(t.source == FIRST for t in study.trials)
    if n_first < len(study.space.first):
        return dict(study.space.first[n_first]), FIRST
    rng = np.random.default_rng([config.seed, study.next_number])
    params = propose(study.space, study.trials, config, rng)
    return study.space.check(params), config.strategy.value
