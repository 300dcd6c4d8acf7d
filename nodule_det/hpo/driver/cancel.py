"""Cancel trainings for a user.

    cancel_all() | give_up() ──▶ cancel ──send_cancellations()──▶ jobs

A cancellation is recorded first.  Its worker is free only once the job is gone.
"""

from __future__ import annotations

from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.study.trial import Reason, Trial, TrialState

CANCEL_AGAIN_S = 300.0
"""Seconds after which a cancellation without effect is repeated."""


def cancel_all(context: DriverContext) -> None:
    """Cancel every trial that has or had a job; points without a job keep waiting."""
    for trial in context.study.pending:
        if trial.attempts and not trial.cancelling:
            cancel(context, trial)


def give_up(context: DriverContext, number: int) -> None:
    """Cancel one trial for a user.  Repeated and late requests are not an error."""
    trial = next((t for t in context.study.trials if t.number == number), None)
    if trial is None or not trial.pending:
        state = "not in this study" if trial is None else f"already {trial.state}"
        context.say(f"trial {number} cannot be cancelled: it is {state}")
    elif not trial.cancelling:
        cancel(context, trial)


def cancel(context: DriverContext, trial: Trial) -> None:
    """Record that a user wants a trial to end; :func:`send_cancellations` ends its job."""
    context.writer.write("cancel", trial=trial.number, reason=Reason.USER)
    context.say(f"cancelling trial {trial.number} ({Reason.USER})")


def send_cancellations(context: DriverContext) -> None:
    """Cancel jobs of cancelled trials; their workers are free once the jobs are gone."""
    now = context.clock.monotonic()
    ids: dict[int, str] = {}
    for trial in context.study.pending:
        if not trial.cancelling:
            continue
        if trial.attempt is None:
            context.finish(trial, TrialState.CANCELLED, trial.cancelling)
        elif trial.attempt.job is not None:
            sent = context.notes.cancelled_at.get(trial.number)
            if sent is None or now - sent >= CANCEL_AGAIN_S:
                ids[trial.number] = trial.attempt.job
    if ids:
        if objection := context.dispatcher.cancel(list(ids.values())):
            context.say(f"jobs to be cancelled may still run: {objection}")
        context.notes.cancelled_at.update(dict.fromkeys(ids, now))
