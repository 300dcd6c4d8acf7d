"""``python -m nodule_det.hpo.cancel``: give up one trial.

    hpo.cancel ──enqueue_cancel()──▶ STUDY/queue ──driver──▶ journal, then the batch system

The journal has one writer, the driver, so this leaves a request.  A running driver takes it up at
its next step, another one when it is started; the job can be ended by hand until then.
"""

from __future__ import annotations

import os
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo import DispatcherKind
from nodule_det.config.hpo_tools import CancelConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch import DISPATCHERS
from nodule_det.hpo.study.inbox import enqueue_cancel
from nodule_det.hpo.study.study import Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import Trial
from nodule_det.locking import why_gone


@command("hpo cancel", CancelConfig)
def main(config: CancelConfig) -> None:
    """Leave the request, and say who takes it up."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    trial = study.trial(config.trial)
    if not trial.pending:
        raise StudyError(
            f"trial={trial.number} of study={folder.path} is {trial.state} already; only a trial "
            "that is not over can be cancelled"
        )
    enqueue_cancel(folder.queue, trial.number)
    holder, gone = why_gone(folder.lock)
    if holder is not None and not gone:
        print(f"trial {trial.number} will be cancelled by the driver ({holder})")
        return
    print(
        f"trial {trial.number} will be cancelled by the driver of {folder.path} once it is started "
        f"again{by_hand(study, trial)}"
    )


def by_hand(study: Study, trial: Trial) -> str:
    """Say how the job of a trial can be ended without a driver."""
    job = trial.attempt.job if trial.attempt is not None else None
    if job is None or not study.sessions:
        return ""
    last = study.sessions[-1]
    words = DISPATCHERS[DispatcherKind(last.dispatcher)].end_by_hand(job)
    where = f"on {last.host}: " if last.dispatcher == "local" else ""
    return f"; to end its job before: {where}{words}"


if __name__ == "__main__":
    main()
