"""What the driver would start next: for ``dry_run=true``.

study, queue ──next_trial()──▶ number, params, source ──preview()──▶ job script and qsub's words
"""

from __future__ import annotations

from pathlib import Path

from nodule_det.config.hpo import HpoConfig
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.dispatch.base import Job
from nodule_det.hpo.driver.limits import ResourceLimits
from nodule_det.hpo.driver.open_study import has_study, missing_store, new_header, require_same
from nodule_det.hpo.driver.submit import next_point
from nodule_det.hpo.strategy.strategy import make_strategy
from nodule_det.hpo.study import inbox as queue
from nodule_det.hpo.study.study import Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import Source, Trial
from nodule_det.hpo.training.command import command_words, job_script_text


def preview(folder: StudyFolder, config: HpoConfig) -> str:
    """Write what the next job would be; nothing is written to disk and nothing is submitted.

    Raises:
        ConfigError: If the search space or the store is wrong.
        StudyError: If the folder holds a study that was made with other settings.
    """
    new = new_header(config, 0.0)
    study = Study(new)
    if has_study(folder):
        study = read_study(folder.path)
        require_same(folder.path, study.header, new)
    trial = next_trial(study, folder, config)
    attempt = trial.next_attempt
    job = Job(study.header.job_name(trial.number, attempt), folder.attempt(trial.number, attempt))
    words = command_words(
        study.header.command,
        study.header.train,
        trial.params,
        folder.trial(trial.number),
        config.dispatcher,
    )
    script = job_script_text(words, config.dispatcher, Path.cwd())
    command = make_dispatcher(config.dispatcher).preview(job)
    why = None if trial.attempts else ResourceLimits(study.trials, config).why_not(trial.params)
    unseen = missing_store(config)
    note = f"# {unseen}\n" if unseen else ""
    note += f"# the driver would refuse this point: {why}\n" if why else ""
    head = f"# trial {trial.number} ({trial.source}), {job.script}\n"
    return f"{head}{note}{script}# submitted by\n{command}\n"


def next_trial(study: Study, folder: StudyFolder, config: HpoConfig) -> Trial:
    """Return the trial that gets the next free worker: as the driver, the oldest one that waits."""
    for trial in study.pending:
        if trial.attempt is None and not trial.cancelling:
            return trial
    number = study.next_number
    known = study.origins
    for entry in queue.read_queue(folder.queue, study.space, study.objective):
        if entry.params is None or entry.path.name in known:
            continue
        if entry.result is None:
            return Trial(number=number, params=entry.params, source=Source.USER, asked_s=0.0)
        number += 1
    params, source = next_point(study, make_strategy(config.acquisition.strategy), config)
    return Trial(number=number, params=params, source=source, asked_s=0.0)
