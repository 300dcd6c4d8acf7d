"""Record in the journal how a job ended: with a value, another attempt, or a failure.

files of a job that has ended ──conclude()──▶ finished, or ended: another attempt follows
result.json of a job counted as lost ──take_late_results()──▶ finished, late
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodule_det.hpo.dispatch.base import Unavailable
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.study.trial import SUSPICIOUS, Attempt, Reason, Trial, TrialState
from nodule_det.hpo.training.files import JobFiles, abandon, close, read_job
from nodule_det.hpo.training.outcome import Outcome, put_away_failure, read_outcome

BUSY_TRIES = 100
"""Number of attempts of a trial that may find its run folder in use by another process."""
BUSY_AGAIN_S = 300.0
"""Seconds before the next attempt of a trial whose run folder was in use."""


def conclude(context: DriverContext, number: int, files: JobFiles) -> None:
    """Record how the open attempt of a trial ended, after the end of its job."""
    context.observe(context.study.trial(number))
    trial = context.study.trial(number)
    attempt = trial.attempt
    assert attempt is not None
    absence = context.notes.absences.pop((number, attempt.number), None)
    outcome = read_outcome(
        context.run_dir(trial),
        context.folder(trial, attempt),
        files,
        context.dispatcher.explain,
        context.study.objective,
        absence.comments if absence else "",
    )
    times = {"started_s": outcome.started_s, "ended_s": outcome.ended_s}
    if outcome.reason is None:
        _complete(context, "finished", trial, outcome)
    elif trial.cancelling:
        _abandon_if_alive(context, trial, attempt, files)
        context.finish(trial, TrialState.CANCELLED, trial.cancelling, **times)
    elif _no_progress(trial, outcome):
        _fail(context, trial, _stuck(outcome))
    elif _may_retry(context, trial, outcome.reason):
        _abandon_if_alive(context, trial, attempt, files)
        put_away_failure(context.run_dir(trial), context.folder(trial, attempt))
        fields = {"trial": number, "attempt": attempt.number, "reason": outcome.reason}
        context.writer.write("ended", **fields, progress=outcome.progress, **times)
        if outcome.reason is Reason.BUSY:
            context.notes.paused_until[number] = context.clock.monotonic() + BUSY_AGAIN_S
        context.say(f"trial {number} {outcome.reason} in attempt {attempt.number}; will be retried")
    else:
        _fail(context, trial, outcome)


def take_late_results(context: DriverContext) -> None:
    """Record results of jobs counted as lost, of trials that have failed or are being retried.

    A job that the batch system cannot see behind a broken network may still complete.
    """
    for trial in context.study.trials:
        lost = [a for a in trial.attempts if a.reason in (Reason.LOST, Reason.KILLED)]
        if lost and (trial.pending or trial.state is TrialState.FAILED):
            with context.sparing_others(trial):
                _take_late_result(context, trial, context.folder(trial, lost[-1]))


def _take_late_result(context: DriverContext, trial: Trial, folder: Path) -> None:
    outcome = read_outcome(
        context.run_dir(trial),
        folder,
        read_job(folder),
        context.dispatcher.explain,
        context.study.objective,
    )
    if outcome.reason is None and _recall(context, trial):
        context.observe(trial)
        _complete(context, "finished" if trial.pending else "late", trial, outcome)


def _recall(context: DriverContext, trial: Trial) -> bool:
    """Prevent the start of a job whose trial already has its result; False if it has started."""
    attempt = trial.attempt
    if attempt is None:
        return True
    if not close(context.folder(trial, attempt)):
        return False  # it finds the result, and exits
    if attempt.job is not None:
        try:
            context.dispatcher.cancel([attempt.job])
        except Unavailable as error:  # it will find its folder closed, and exit
            context.say(f"job {attempt.job} of trial {trial.number} stays in the queue: {error}")
    return True


def _complete(context: DriverContext, kind: str, trial: Trial, outcome: Outcome) -> None:
    infeasible = {"reason": Reason.INFEASIBLE, "message": outcome.violation}
    context.writer.write(
        kind,
        trial=trial.number,
        state=TrialState.COMPLETE,
        **(infeasible if outcome.violation else {}),
        value=outcome.value,
        value_se=outcome.value_se,
        **({"influence": outcome.influence} if outcome.influence else {}),
        peak_memory_bytes=outcome.peak_memory_bytes,
        started_s=outcome.started_s,
        ended_s=outcome.ended_s,
    )
    context.notes.failures = 0
    late = " (its job was counted as lost, but completed)" if trial.attempt is None else ""
    why = f", infeasible: {outcome.violation}" if outcome.violation else ""
    context.say(f"trial {trial.number} complete: {outcome.value:.6g}{late}{why}")


def _fail(context: DriverContext, trial: Trial, outcome: Outcome) -> None:
    assert outcome.reason is not None
    context.finish(
        trial,
        TrialState.FAILED,
        outcome.reason,
        message=outcome.message,
        peak_memory_bytes=outcome.peak_memory_bytes,
        started_s=outcome.started_s,
        ended_s=outcome.ended_s,
    )
    context.notes.failures += outcome.reason in SUSPICIOUS


def _abandon_if_alive(
    context: DriverContext, trial: Trial, attempt: Attempt, files: JobFiles
) -> None:
    """Make a job counted as lost, which may still run behind a broken network, end its training."""
    if files.claim is not None and files.exit is None:
        abandon(context.folder(trial, attempt))


def _no_progress(trial: Trial, outcome: Outcome) -> bool:
    """Return whether two attempts in a row were stopped at the same point of the training."""
    stopped = [a for a in trial.attempts if a.reason is Reason.STOPPED]
    return (
        outcome.reason is Reason.STOPPED
        and outcome.progress is not None
        and bool(stopped)
        and stopped[-1].progress == outcome.progress
    )


def _stuck(outcome: Outcome) -> Outcome:
    message = (
        f"two jobs in a row stopped at the same point ({outcome.progress}): a job is too short to "
        "get further; raise dispatcher.walltime_s, or validate fewer scans"
    )
    return replace(outcome, reason=Reason.NO_PROGRESS, message=message)


def _may_retry(context: DriverContext, trial: Trial, reason: Reason) -> bool:
    limits = context.config.retries
    limit = {
        Reason.LOST: limits.lost,
        Reason.KILLED: limits.killed,
        Reason.ERROR: limits.error,
        Reason.STOPPED: limits.stopped,
        Reason.BUSY: BUSY_TRIES,
    }.get(reason, 0)
    # submissions that the batch system refused or never received do not count
    return sum(a.reason is reason and a.job is not None for a in trial.attempts) < limit
