"""Start jobs: every free worker gets the oldest waiting trial, or else a new point.

    may_ask() ──next_point()──▶ params ──intent──▶ journal ──submit──▶ id ──▶ journal
                                            └── no answer ──settle()──▶ found by name, or submitted

The intent to submit, with a unique job name, is on the disk before the submission.  An intent
without an answer is resolved by querying the name before anything is submitted again.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from nodule_det.config.hpo import HpoConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch.base import Job, MissingCommand, Refused, Unavailable
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.limits import ResourceLimits
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.strategy.finite import why_enough
from nodule_det.hpo.strategy.strategy import Propose
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import SUSPICIOUS, Attempt, Reason, Source, Trial, TrialState
from nodule_det.hpo.training import command
from nodule_det.hpo.training.files import close, read_claim

FAILURES_AT_START = 3
"""Number of suspicious failures in a row, before any success, that end the driver: the setup is
wrong, not the point."""
FAILURES_IN_A_ROW = 10
"""The same after a success: a node without the data would use up the whole study."""
HOPELESS_IN_A_ROW = 10
"""Number of proposals in a row, refused because of their predicted memory or time, that end the
driver: the strategy knew the limits but found no point within them."""


def settle(context: DriverContext) -> None:
    """Query submissions without an answer, and submit those that did not arrive."""
    for trial, attempt in context.open_attempts():
        if attempt.job is None:
            with context.sparing_others(trial):
                _settle(context, trial, attempt)


def _settle(context: DriverContext, trial: Trial, attempt: Attempt) -> None:
    job = context.job(trial, attempt)
    known = _claimed_by(job) or context.dispatcher.find(job) or _claimed_by(job)
    if known is not None:
        context.submitted(trial, attempt, known)
    elif trial.cancelling:
        if close(job.folder):  # else it has just started, and the next step finds it
            context.finish(trial, TrialState.CANCELLED, trial.cancelling)
    else:
        write_job(context, trial, job)  # the settings of the dispatcher may have been corrected
        _submit(context, trial, attempt)


def _claimed_by(job: Job) -> str | None:
    """Return the id that a job wrote when it started, which may happen during the query."""
    claim = read_claim(job.folder)
    return None if claim is None else claim.job


def check_setup(context: DriverContext) -> None:
    """End the driver if too many trainings in a row fail with an error or vanish.

    Raises:
        StudyError: Naming the last of these trainings.
    """
    worked = any(t.state is TrialState.COMPLETE for t in context.study.own)
    if context.notes.failures < (FAILURES_IN_A_ROW if worked else FAILURES_AT_START):
        return
    failed = max(
        (t for t in context.study.own if t.reason in SUSPICIOUS), key=lambda t: t.finished_s or 0.0
    )
    raise StudyError(
        f"the last {context.notes.failures} trainings failed with an error or vanished"
        f"{'' if worked else ' and none has succeeded'}: the setup or a node seems to be wrong.  "
        f"Trial {failed.number}: {failed.reason}, {failed.message}; see {context.run_dir(failed)}. "
        "Correct it and run the same command again"
    )


def may_ask(context: DriverContext) -> bool:
    """Return whether one more trial is of use, and within the limits of the study."""
    return context.asks and _is_within_limits(context) and not _why_enough(context)


def _is_within_limits(context: DriverContext) -> bool:
    limit_s = context.config.node_hours * 3600
    used_up = limit_s > 0 and context.study.node_seconds(context.clock.now()) >= limit_s
    return context.study.n_counted < context.config.trials and not used_up


def _why_enough(context: DriverContext) -> str:
    study, config = context.study, context.config
    limits = ResourceLimits(study.trials, config)
    allowed = limits.allows if limits.limited else None
    return why_enough(study.space, study.trials, config.acquisition.strategy, allowed)


def fill_workers(context: DriverContext) -> None:
    """Start the next trial on every free worker."""
    if context.stopping:
        return
    free = context.config.workers - len(context.open_attempts())
    while free > 0 and (trial := next_trial(context)) is not None:
        if trial.attempts or not _refuse(context, trial):
            with context.sparing_others(trial):
                _intend_and_submit(context, trial)
            free -= 1
    may_want = free > 0 and context.asks and _is_within_limits(context)
    if may_want and (why := _why_enough(context)):
        context.say_once(why)


def next_trial(context: DriverContext) -> Trial | None:
    """Return the trial for a free worker: the oldest waiting one, or else a new one.

    None if no more trials are of use, or within the limits of the study.
    """
    if waiting := context.waiting():
        return waiting[0]
    return context.study.trial(_ask(context)) if may_ask(context) else None


def _ask(context: DriverContext) -> int:
    params, source = next_point(context.study, context.propose, context.config)
    return context.writer.ask(params, source)


def _refuse(context: DriverContext, trial: Trial) -> bool:
    """Fail a trial that exceeds the limits of a job; return whether it did.

    Raises:
        StudyError: If the last ten proposals were all refused.
    """
    why = ResourceLimits(context.study.trials, context.config).why_not(trial.params)
    if why is None:
        context.notes.refused = 0
        return False
    context.finish(trial, TrialState.FAILED, Reason.REFUSED, message=why)
    context.notes.refused += trial.source == context.config.acquisition.strategy.value
    if context.notes.refused >= HOPELESS_IN_A_ROW:
        raise StudyError(
            f"the last {context.notes.refused} proposals were refused before submission, trial "
            f"{trial.number} because it is {why}: the search space seems to have no point within "
            "the limits.  Widen it, correct the limit, or set forecast.refuse=false, and run the "
            "same command again"
        )
    return True


def next_point(study: Study, propose: Propose, config: HpoConfig) -> tuple[Params, str]:
    """Return the next point and its source.

    First come the listed points of the space, then proposals within the limits of a job.
    """
    trials, space, acquisition = study.trials, study.space, config.acquisition
    n_first = sum(t.source == Source.FIRST for t in trials)
    if n_first < len(space.first):
        return dict(space.first[n_first]), Source.FIRST
    rng = np.random.default_rng([acquisition.seed, study.next_number])
    limits = ResourceLimits(trials, config)
    choose = partial(propose, allowed=limits.allows) if limits.limited else propose
    return space.check(choose(space, trials, acquisition, rng)), acquisition.strategy.value


def _intend_and_submit(context: DriverContext, trial: Trial) -> None:
    number = trial.next_attempt
    name = context.study.header.job_name(trial.number, number)
    folder = context.writer.folder.attempt(trial.number, number)
    write_job(context, trial, Job(name, folder))
    context.writer.write("intent", trial=trial.number, attempt=number, name=name)
    trial = context.study.trial(trial.number)
    assert trial.attempt is not None
    _submit(context, trial, trial.attempt)


def _submit(context: DriverContext, trial: Trial, attempt: Attempt) -> None:
    try:
        job_id = context.dispatcher.submit(context.job(trial, attempt))
    except MissingCommand:
        if not context.study.has_jobs:
            _withdraw(context, trial, attempt)
        raise
    except Refused as error:
        if not context.notes.accepted:
            _withdraw(context, trial, attempt)
            raise  # the user has just started the command and can correct it
        raise Unavailable(str(error)) from error  # for example during maintenance of the site
    context.notes.accepted = True
    context.submitted(trial, attempt, job_id)


def _withdraw(context: DriverContext, trial: Trial, attempt: Attempt) -> None:
    """End an attempt that certainly has no job, so that another batch system may be used."""
    fields = {"trial": trial.number, "attempt": attempt.number, "reason": Reason.LOST}
    context.writer.write("ended", **fields)


def write_job(context: DriverContext, trial: Trial, job: Job) -> None:
    """Write the folder of a job."""
    command.write_job(job, job_words(context, trial), context.config.dispatcher, context.workdir)


def job_words(context: DriverContext, trial: Trial) -> list[str]:
    """Return the arguments of a trial's command."""
    header, config = context.study.header, context.config.dispatcher
    return command.command_words(
        header.command, header.train, trial.params, context.run_dir(trial), config
    )
