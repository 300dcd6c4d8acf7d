"""``python -m nodule_det.hpo.cancel``: cancel one trial.

    hpo.cancel ──enqueue_cancel()──▶ STUDY/queue ──driver──▶ journal, then the batch system

The driver is the only writer of the journal, so this command queues a request.  A running driver
reads it in its next step.  Without one, the job can be ended by hand.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo import DispatcherKind
from nodule_det.config.hpo_tools import CancelConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch import DISPATCHERS
from nodule_det.hpo.study.inbox import enqueue_cancel
from nodule_det.hpo.study.study import Study, StudyFolder, original_of, read_study
from nodule_det.hpo.study.trial import Trial
from nodule_det.locking import why_gone


@command("hpo cancel", CancelConfig)
def main(config: CancelConfig) -> None:
    """Queue the request, and report which driver will handle it."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    original = original_of(study, folder.path)
    if original is not None:
        raise StudyError(
            f"study={folder.path} is a copy of {original}, to which the jobs belong: cancel the "
            "trial there"
        )
    trial = study.trial(config.trial)
    if not trial.pending:
        raise StudyError(
            f"trial={trial.number} of study={folder.path} is already {trial.state}; only a "
            "pending trial can be cancelled"
        )
    enqueue_cancel(folder.queue, trial.number)
    holder, gone = why_gone(folder.lock)
    if holder is not None and not gone:
        print(f"trial {trial.number} will be cancelled by the driver ({holder})")
        return
    print(
        f"trial {trial.number} will be cancelled once a driver of {folder.path} is started"
        f"{by_hand(study, trial)}"
    )


def by_hand(study: Study, trial: Trial) -> str:
    """Return how to end the job of a trial by hand; empty if unknown."""
    job = trial.attempt.job if trial.attempt is not None else None
    if job is None or not study.sessions:
        return ""
    last = study.sessions[-1]
    if last.dispatcher not in [kind.value for kind in DispatcherKind]:
        return ""
    local = last.dispatcher == DispatcherKind.local.value
    if local and not re.fullmatch(r"[1-9][0-9]+-[0-9]+-[0-9a-f]+", job, re.ASCII):
        return ""  # not ours: "kill -- -1" would end every process of the user
    command = DISPATCHERS[DispatcherKind(last.dispatcher)].end_by_hand(job)
    where = f"on {last.host}: " if local else ""
    return f"; to end its job before that: {where}{command}"


if __name__ == "__main__":
    main()
