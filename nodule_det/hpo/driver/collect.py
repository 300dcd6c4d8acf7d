"""What has happened: files of people and of jobs, and the batch system's answer, into the journal.

    queue folder ──take_queue()─────────┐
    claim, exit_code ──collect_finished()┼──▶ asked, started, ended, finished
    one poll of all jobs ──poll()────────┘

Only files that the job wrote say how it ended; the batch system only says that it is gone.  No
answer, or one that does not mention a job, changes nothing.
"""

from __future__ import annotations

from typing import Any

from nodule_det.hpo.dispatch.base import JobReport, JobState
from nodule_det.hpo.driver.cancel import give_up, observe
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.study import inbox as queue
from nodule_det.hpo.study.trial import SUSPICIOUS, Attempt, Reason, Source, Trial, TrialState
from nodule_det.hpo.training.files import close, read_claim, read_exit
from nodule_det.hpo.training.outcome import put_away_failure, read_outcome


def take_queue(context: DriverContext) -> None:
    """Take in what people left: points, results, cancellations."""
    known = context.study.origins
    study = context.study
    for entry in queue.read_queue(context.writer.folder.queue, study.space, study.objective):
        if entry.error:
            context.say_once(entry.error)
            continue
        if entry.cancel is not None:
            give_up(context, entry.cancel)
        elif entry.path.name not in known:
            _take(context, entry)
        elif entry.result is not None:
            _finish_import(context, entry.path.name, entry.result)
        entry.path.unlink(missing_ok=True)


def _take(context: DriverContext, entry: queue.Entry) -> None:
    assert entry.params is not None
    if entry.result is None:
        number = context.writer.ask(entry.params, Source.USER, entry.path.name)
        context.say(f"trial {number} taken from the queue")
        return
    context.writer.ask(entry.params, Source.IMPORTED, entry.path.name)
    _finish_import(context, entry.path.name, entry.result)


def _finish_import(context: DriverContext, origin: str, result: dict[str, Any]) -> None:
    """Write the result of a trial that was run elsewhere, also where a kill came in between."""
    trial = next(t for t in context.study.trials if t.origin == origin)
    if trial.pending:
        context.writer.write("finished", trial=trial.number, **result)


def collect_finished(context: DriverContext) -> None:
    """Conclude every attempt whose job has written its exit code."""
    for trial, attempt in context.open_attempts():
        folder = context.folder(trial, attempt)
        if attempt.started_s is None and (claim := read_claim(folder)) is not None:
            _note_start(context, trial, attempt, claim.started_s)
        exit_ = read_exit(folder)
        if exit_ is not None and not (exit_.asked_to_end and _says_more(context, trial, attempt)):
            _conclude(context, trial.number)


def _says_more(context: DriverContext, trial: Trial, attempt: Attempt) -> bool:
    """Say whether the batch system may still tell why: it does so once the job is gone."""
    now = context.clock.monotonic()
    since = context.notes.ended_since.setdefault((trial.number, attempt.number), now)
    return now - since < context.config.dispatcher.grace_s


def poll(context: DriverContext) -> None:
    """Ask for all jobs at once."""
    attempts = [(t, a) for t, a in context.open_attempts() if a.job is not None]
    reports = context.dispatcher.poll([a.job for _, a in attempts if a.job is not None])
    context.notes.answered = bool(reports)
    context.notes.reports = {
        t.number: reports[a.job] for t, a in attempts if a.job is not None and a.job in reports
    }
    for trial, attempt in attempts:
        report = context.notes.reports.get(trial.number)
        if report is not None and report.state is JobState.GONE:
            _take_absence(context, trial, attempt, report.comment)
        elif report is not None:
            _take_presence(context, trial, attempt, report)


def _take_presence(
    context: DriverContext, trial: Trial, attempt: Attempt, report: JobReport
) -> None:
    context.notes.gone_since.pop((trial.number, attempt.number), None)
    if report.state is JobState.RUNNING and attempt.started_s is None:
        claim = read_claim(context.folder(trial, attempt))
        _note_start(context, trial, attempt, claim.started_s if claim else context.clock.now())
    if report.never_runs:
        context.say_once(
            f"job {attempt.job} of trial {trial.number} waits in vain: {report.comment}"
        )
    elif report.held:
        context.say_once(
            f"job {attempt.job} of trial {trial.number} waits for you: {report.comment}"
        )


def _take_absence(context: DriverContext, trial: Trial, attempt: Attempt, comment: str) -> None:
    folder = context.folder(trial, attempt)
    claim = read_claim(folder)
    same = context.dispatcher.same_job
    if claim is not None and attempt.job is not None and not same(claim.job, attempt.job):
        # Two submissions of one attempt, after a lost answer: the other one runs it.
        context.submitted(trial, attempt, claim.job)
        return
    key = (trial.number, attempt.number)
    context.notes.last_words[key] = f"{context.notes.last_words.get(key, '')}{comment}\n"
    first, polls = context.notes.gone_since.get(key, (context.clock.monotonic(), 0))
    context.notes.gone_since[key] = (first, polls + 1)
    waited_s = context.clock.monotonic() - first
    settled = polls >= 1 and waited_s >= context.config.dispatcher.grace_s
    over = read_exit(folder) is not None or trial.cancelling or settled
    if over and (claim is not None or close(folder)):  # else it has started just now
        _conclude(context, trial.number)


def _note_start(context: DriverContext, trial: Trial, attempt: Attempt, started_s: float) -> None:
    fields = {"attempt": attempt.number, "started_s": started_s}
    context.writer.write("started", trial=trial.number, **fields)


def _conclude(context: DriverContext, number: int) -> None:
    """Take in what a job that is over has left."""
    observe(context, context.study.trial(number))
    trial = context.study.trial(number)
    attempt = trial.attempt
    assert attempt is not None
    key = (number, attempt.number)
    context.notes.gone_since.pop(key, None)
    outcome = read_outcome(
        context.run_dir(trial),
        context.folder(trial, attempt),
        context.dispatcher.explain,
        context.notes.last_words.pop(key, ""),
    )
    times = {"started_s": outcome.started_s, "ended_s": outcome.ended_s}
    if outcome.reason is None:
        context.writer.write(
            "finished",
            trial=number,
            state=TrialState.COMPLETE,
            value=outcome.value,
            value_se=outcome.value_se,
            peak_memory_bytes=outcome.peak_memory_bytes,
            **times,
        )
        context.notes.failures = 0
        context.say(f"trial {number} complete: {outcome.value:.4f}")
    elif trial.cancelling:
        context.finish(trial, TrialState.CANCELLED, trial.cancelling, **times)
    elif _may_retry(context, trial, outcome.reason):
        put_away_failure(context.run_dir(trial), context.folder(trial, attempt))
        fields = {"trial": number, "attempt": attempt.number, "reason": outcome.reason}
        context.writer.write("ended", **fields, **times)
        context.say(f"trial {number} {outcome.reason} in attempt {attempt.number}; goes on")
    else:
        peak = {"peak_memory_bytes": outcome.peak_memory_bytes}
        context.finish(
            trial, TrialState.FAILED, outcome.reason, message=outcome.message, **peak, **times
        )
        context.notes.failures += outcome.reason in SUSPICIOUS


def _may_retry(context: DriverContext, trial: Trial, reason: Reason) -> bool:
    limits = context.config.retries
    limit = {
        Reason.LOST: limits.lost,
        Reason.KILLED: limits.killed,
        Reason.ERROR: limits.error,
        Reason.STOPPED: limits.stopped,
    }.get(reason, 0)
    return sum(a.reason is reason for a in trial.attempts) < limit
