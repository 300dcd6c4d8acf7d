"""Show what the driver would start next, for ``dry_run=true``.

study, queue ──Draft──▶ next_trial(), as in the driver ──preview()──▶ job script, qsub command
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nodule_det.config.hpo import DispatcherKind, HpoConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.dispatch.base import Job
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.collect import take_entries
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.forecast import SEARCH, Plan, measured_rate, require_time, study_lines
from nodule_det.hpo.driver.limits import ResourceLimits
from nodule_det.hpo.driver.open_study import (
    has_study,
    missing_store,
    new_header,
    refuse_unvalidated,
    require_same,
)
from nodule_det.hpo.driver.submit import job_words, next_trial
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.study import Study, StudyFolder, StudyWriter, read_study
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.training.command import job_script_text


class Draft(StudyWriter):
    """A study whose new records stay in memory."""

    def __init__(self, folder: StudyFolder, study: Study) -> None:
        self.folder, self.study = folder, study

    def write(self, kind: str, **fields: Any) -> None:
        """Apply a record to the study without writing it."""
        self.study.apply({"kind": kind, "t": time.time(), **fields})


def preview(folder: StudyFolder, config: HpoConfig, plan: Plan = SEARCH) -> str:
    """Describe the next job.  Nothing is written to disk and nothing is submitted.

    Raises:
        ConfigError: If the search space or the store is wrong, or no training would finish.
        StudyError: If the folder has a study that was created with other settings.
    """
    new = new_header(config, 0.0)
    refuse_unvalidated(config, new.space, plan.points)
    study = Study(new)
    if has_study(folder):
        study = read_study(folder.path)
        require_same(folder.path, study.header, new)
    context = DriverContext(
        writer=Draft(folder, study),
        dispatcher=make_dispatcher(config.dispatcher),
        propose=propose,
        config=config,
        clock=WallClock(),
        workdir=Path.cwd(),
    )
    for _ in take_entries(context):
        pass
    trial = next_trial(context)
    if trial is None:
        return f"# no trial would be started: {study.n_counted} of trials={config.trials} exist\n"
    attempt = trial.next_attempt
    job = Job(study.header.job_name(trial.number, attempt), folder.attempt(trial.number, attempt))
    script = job_script_text(job_words(context, trial), config.dispatcher, context.workdir)
    why = None if trial.attempts else ResourceLimits(study.trials, config).why_not(trial.params)
    unseen = missing_store(config)
    note = f"# {unseen}\n" if unseen else ""
    note += f"# the driver would refuse this point: {why}\n" if why else ""
    head = f"# trial {trial.number} ({trial.source}), {job.script}\n"
    expected = "".join(f"# {line}\n" for line in _forecast(context, trial, plan, bool(unseen)))
    return f"{head}{expected}{note}{script}# submitted by\n{context.dispatcher.preview(job)}\n"


def _forecast(context: DriverContext, trial: Trial, plan: Plan, unseen: bool) -> list[str]:
    """Measure the training on this machine where it can run here, and say what the study takes."""
    config, study = context.config, context.writer.study
    if config.command:
        return []
    rate, note = None, []
    if not unseen and config.dispatcher.kind is DispatcherKind.local:
        try:
            rate = measured_rate(job_words(context, trial))
        except StudyError as error:
            note = [str(error)]
    space = study.header.space
    require_time(config, space, study.trials, plan, rate)
    return [*note, *study_lines(config, space, study.trials, plan, rate)]
