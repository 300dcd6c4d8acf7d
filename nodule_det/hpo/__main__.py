"""``python -m nodule_det.hpo``: create or resume a study, and drive it to its end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from nodule_det.cli import calculate_in_one_thread, command
from nodule_det.config.hpo import DispatcherKind, HpoConfig, Stop, require_study
from nodule_det.errors import StudyError


@command("hpo", HpoConfig)
def main(config: HpoConfig) -> int | None:
    """Tune; the files of a study are for their owner only."""
    os.umask(0o077)
    calculate_in_one_thread()
    from nodule_det.hpo.driver.dry_run import preview
    from nodule_det.hpo.driver.open_study import has_study, missing_store, new_header
    from nodule_det.hpo.driver.session import run_session
    from nodule_det.hpo.study.lock import StudyLock
    from nodule_det.hpo.study.study import StudyFolder

    # Absolute, for jobs start elsewhere; links are kept, for nodes may not have their targets.
    folder = StudyFolder(Path(os.path.abspath(os.path.expanduser(config.study))))
    if config.dispatcher.kind is not DispatcherKind.local:
        require_study(str(folder.path))  # with the folders above it, which qsub gets as well
    if config.dry_run:
        print(preview(folder, config), end="")
        return None
    # Before the folder: what is wrong leaves none behind.
    if config.stop is Stop.never:
        missing_store(config)
    elif not has_study(folder):
        raise StudyError(f"stop=jobs: {folder.path} holds no study, so it has no jobs to cancel")
    header = new_header(config, time.time())
    folder.path.mkdir(parents=True, exist_ok=True)
    with StudyLock(folder.lock) as lock:
        return run_session(folder, config, header, lock, sys.stderr)


if __name__ == "__main__":
    main()
