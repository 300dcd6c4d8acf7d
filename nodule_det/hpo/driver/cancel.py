"""What is to be ended: trainings that fall behind, and those that a person gives up.

    metrics.jsonl ──observe()──▶ Trial.curve ──stop_early()──▶ cancel ──send_cancellations()──▶ jobs

A cancellation is written down first; the worker is free once the job is gone, not before.
"""

from __future__ import annotations

from nodule_det.hpo.driver.context import Desk
from nodule_det.hpo.driver.early_stopping import should_stop
from nodule_det.hpo.study.trial import Reason, Trial, TrialState
from nodule_det.hpo.training import command as objective

CANCEL_AGAIN_S = 300.0
"""After this time without effect a job is asked to end once more."""


def observe(desk: Desk, trial: Trial) -> None:
    """Note the validations of a trial that are new."""
    seen = {o.epoch for o in trial.curve}
    for o in objective.read_curve(desk.run_dir(trial)):
        if o.epoch not in seen:
            fields = {"epoch": o.epoch, "value": o.value, "se": o.se}
            desk.writer.write("observed", trial=trial.number, **fields)
            seen.add(o.epoch)


def stop_early(desk: Desk) -> None:
    """Cancel running trainings that fall behind, where the settings say so.

    Their validations are noted where the choice of the next point learns from them as well.
    """
    if not (desk.config.stopping.on or desk.config.acquisition.running_curves):
        return
    for trial, attempt in desk.open_attempts():
        if attempt.started_s is not None and not trial.cancelling:
            observe(desk, trial)
            trial = desk.study.trial(trial.number)
            if should_stop(trial, desk.study.trials, desk.config.stopping):
                cancel(desk, trial, Reason.EARLY_STOPPED)


def cancel_all(desk: Desk) -> None:
    """Cancel every trial that is, or was, a job; points that wait for their first go on waiting."""
    for trial in desk.study.pending:
        if trial.attempts and not trial.cancelling:
            cancel(desk, trial, Reason.USER)


def give_up(desk: Desk, number: int) -> None:
    """Cancel one trial because a person wants it; twice is once, and too late is no error."""
    trial = next((t for t in desk.study.trials if t.number == number), None)
    if trial is None or not trial.pending:
        state = "not in this study" if trial is None else f"{trial.state} already"
        desk.say(f"trial {number} cannot be cancelled: it is {state}")
    elif not trial.cancelling:
        cancel(desk, trial, Reason.USER)


def cancel(desk: Desk, trial: Trial, reason: Reason) -> None:
    """Write that a trial is to end; its job is told by :func:`send_cancellations`."""
    desk.writer.write("cancel", trial=trial.number, reason=reason)
    desk.say(f"trial {trial.number} is to end: {reason}")


def send_cancellations(desk: Desk) -> None:
    """Ask for the end of cancelled jobs; their workers are free once they are gone."""
    now = desk.clock.monotonic()
    ids: dict[int, str] = {}
    for trial in desk.study.pending:
        if not trial.cancelling:
            continue
        if trial.attempt is None:
            desk.finish(trial, TrialState.CANCELLED, trial.cancelling)
        elif trial.attempt.job is not None:
            sent = desk.notes.cancelled_at.get(trial.number)
            if sent is None or now - sent >= CANCEL_AGAIN_S:
                ids[trial.number] = trial.attempt.job
    if ids:
        desk.dispatcher.cancel(list(ids.values()))
        desk.notes.cancelled_at.update(dict.fromkeys(ids, now))
