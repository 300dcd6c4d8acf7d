"""What has happened: files of people and of jobs, and the batch system's answer, into the journal.

    queue folder ──take_queue()─────────┐
    claim, exit_code ──collect_finished()┼──▶ asked, started, ended, finished
    one poll of all jobs ──poll()────────┘

Only files that the job wrote say how it ended; the batch system only says that it is gone.  No
answer, or one that does not mention a job, changes nothing.
"""

from __future__ import annotations

from typing import Any

from nodule_det.hpo.dispatch.base import (
    JobReport,
    JobState,
    close,
    read_claim,
    read_exit,
    same_job,
)
from nodule_det.hpo.driver.cancel import give_up, observe
from nodule_det.hpo.driver.context import Desk
from nodule_det.hpo.study import inbox as queue
from nodule_det.hpo.study.study import IMPORTED
from nodule_det.hpo.study.trial import SUSPICIOUS, Attempt, Reason, Trial, TrialState
from nodule_det.hpo.training import command as objective

USER = "user"
"""Source of a trial whose point a person chose."""


def take_queue(desk: Desk) -> None:
    """Take in what people left: points, results, cancellations."""
    known = desk.study.origins
    for entry in queue.read_queue(desk.writer.folder.queue, desk.study.space):
        if entry.error:
            desk.say_once(entry.error)
            continue
        if entry.cancel is not None:
            give_up(desk, entry.cancel)
        elif entry.path.name not in known:
            _take(desk, entry)
        elif entry.result is not None:
            _finish_import(desk, entry.path.name, entry.result)
        entry.path.unlink(missing_ok=True)


def _take(desk: Desk, entry: queue.Entry) -> None:
    assert entry.params is not None
    if entry.result is None:
        number = desk.writer.ask(entry.params, USER, entry.path.name)
        desk.say(f"trial {number} taken from the queue")
        return
    desk.writer.ask(entry.params, IMPORTED, entry.path.name)
    _finish_import(desk, entry.path.name, entry.result)


def _finish_import(desk: Desk, origin: str, result: dict[str, Any]) -> None:
    """Write the result of a trial that was run elsewhere, also where a kill came in between."""
    trial = next(t for t in desk.study.trials if t.origin == origin)
    if trial.pending:
        desk.writer.write("finished", trial=trial.number, **result)


def collect_finished(desk: Desk) -> None:
    """Conclude every attempt whose job has written its exit code."""
    for trial, attempt in desk.open_attempts():
        folder = desk.folder(trial, attempt)
        if attempt.started_s is None and (claim := read_claim(folder)) is not None:
            _note_start(desk, trial, attempt, claim.started_s)
        exit_ = read_exit(folder)
        if exit_ is not None and not (exit_.told_to_end and _says_more(desk, trial, attempt)):
            _conclude(desk, trial.number)


def _says_more(desk: Desk, trial: Trial, attempt: Attempt) -> bool:
    """Say whether the batch system may still tell why: it does so once the job is gone."""
    now = desk.clock.monotonic()
    since = desk.notes.ended_since.setdefault((trial.number, attempt.number), now)
    return now - since < desk.config.dispatcher.grace_s


def poll(desk: Desk) -> None:
    """Ask for all jobs at once."""
    attempts = [(t, a) for t, a in desk.open_attempts() if a.job is not None]
    reports = desk.dispatcher.poll([a.job for _, a in attempts if a.job is not None])
    desk.notes.answered = bool(reports)
    desk.notes.reports = {
        t.number: reports[a.job] for t, a in attempts if a.job is not None and a.job in reports
    }
    for trial, attempt in attempts:
        report = desk.notes.reports.get(trial.number)
        if report is not None and report.state is JobState.GONE:
            _take_absence(desk, trial, attempt, report.comment)
        elif report is not None:
            _take_presence(desk, trial, attempt, report)


def _take_presence(desk: Desk, trial: Trial, attempt: Attempt, report: JobReport) -> None:
    desk.notes.gone_since.pop((trial.number, attempt.number), None)
    if report.state is JobState.RUNNING and attempt.started_s is None:
        claim = read_claim(desk.folder(trial, attempt))
        _note_start(desk, trial, attempt, claim.started_s if claim else desk.clock.now())
    if report.hopeless:
        desk.say_once(f"job {attempt.job} of trial {trial.number} waits in vain: {report.comment}")
    elif report.held:
        desk.say_once(f"job {attempt.job} of trial {trial.number} waits for you: {report.comment}")


def _take_absence(desk: Desk, trial: Trial, attempt: Attempt, comment: str) -> None:
    folder = desk.folder(trial, attempt)
    claim = read_claim(folder)
    if claim is not None and attempt.job is not None and not same_job(claim.job, attempt.job):
        # Two submissions of one attempt, after a lost answer: the other one runs it.
        desk.submitted(trial, attempt, claim.job)
        return
    key = (trial.number, attempt.number)
    desk.notes.last_words[key] = f"{desk.notes.last_words.get(key, '')}{comment}\n"
    first, polls = desk.notes.gone_since.get(key, (desk.clock.monotonic(), 0))
    desk.notes.gone_since[key] = (first, polls + 1)
    waited_s = desk.clock.monotonic() - first
    settled = polls >= 1 and waited_s >= desk.config.dispatcher.grace_s
    over = read_exit(folder) is not None or trial.cancelling or settled
    if over and (claim is not None or close(folder)):  # else it has started just now
        _conclude(desk, trial.number)


def _note_start(desk: Desk, trial: Trial, attempt: Attempt, started_s: float) -> None:
    fields = {"attempt": attempt.number, "started_s": started_s}
    desk.writer.write("started", trial=trial.number, **fields)


def _conclude(desk: Desk, number: int) -> None:
    """Take in what a job that is over has left."""
    observe(desk, desk.study.trial(number))
    trial = desk.study.trial(number)
    attempt = trial.attempt
    assert attempt is not None
    key = (number, attempt.number)
    desk.notes.gone_since.pop(key, None)
    outcome = objective.read_outcome(
        desk.run_dir(trial), desk.folder(trial, attempt), desk.notes.last_words.pop(key, "")
    )
    times = {"started_s": outcome.started_s, "ended_s": outcome.ended_s}
    if outcome.reason is None:
        desk.writer.write(
            "finished",
            trial=number,
            state=TrialState.COMPLETE,
            value=outcome.value,
            value_se=outcome.value_se,
            peak_memory_bytes=outcome.peak_memory_bytes,
            **times,
        )
        desk.notes.failures = 0
        desk.say(f"trial {number} complete: {outcome.value:.4f}")
    elif trial.cancelling:
        desk.finish(trial, TrialState.CANCELLED, trial.cancelling, **times)
    elif _may_retry(desk, trial, outcome.reason):
        objective.put_away_failure(desk.run_dir(trial), desk.folder(trial, attempt))
        fields = {"trial": number, "attempt": attempt.number, "reason": outcome.reason}
        desk.writer.write("ended", **fields, **times)
        desk.say(f"trial {number} {outcome.reason} in attempt {attempt.number}; goes on")
    else:
        peak = {"peak_memory_bytes": outcome.peak_memory_bytes}
        desk.finish(
            trial, TrialState.FAILED, outcome.reason, message=outcome.message, **peak, **times
        )
        desk.notes.failures += outcome.reason in SUSPICIOUS


def _may_retry(desk: Desk, trial: Trial, reason: Reason) -> bool:
    limits = desk.config.retries
    limit = {
        Reason.LOST: limits.lost,
        Reason.KILLED: limits.killed,
        Reason.ERROR: limits.error,
        Reason.STOPPED: limits.stopped,
    }.get(reason, 0)
    return sum(a.reason is reason for a in trial.attempts) < limit
