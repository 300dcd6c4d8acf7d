"""``python -m nodule_det.hpo.prune``: free the disk space that finished trials no longer need.

The driver does the same while a study runs (``keep.best``, ``keep.pack``).  This command is for
studies of earlier versions, and for those that ran with other settings.
"""

from __future__ import annotations

import os
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo_tools import PruneConfig
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.training.disk import best_numbers, is_over, pack_trial, packable, unneeded
from nodule_det.progress import counted


@command("hpo prune", PruneConfig)
def main(config: PruneConfig) -> None:
    """List what can be removed, or remove it."""
    os.umask(0o077)
    folder = StudyFolder(Path(config.study))
    study = read_study(folder.path)
    best = best_numbers(study, config.keep_best)
    n_checkpoints = freed = n_files = n_trials = 0
    for trial in study.own:
        if not is_over(trial, folder):
            continue
        for path in unneeded(trial, folder, best):
            n_checkpoints += 1
            freed += path.stat().st_size
            if config.remove:
                path.unlink()
        if config.pack:
            ours = not study.header.command
            n = _pack(folder.trial(trial.number), ours=ours, remove=config.remove)
            n_files += n
            n_trials += n > 0
    what = f"{counted(n_checkpoints, 'checkpoint')} ({freed / 1e9:.2f} GB)"
    files = (
        f"{counted(n_files, 'small file')} of {counted(n_trials, 'trial')} into one archive each"
    )
    if config.remove:
        print(f"{folder.path}: removed {what}, packed {files}")
    else:
        print(f"{folder.path}: can remove {what} and pack {files}; add remove=true to do it")


def _pack(run_dir: Path, *, ours: bool, remove: bool) -> int:
    if not remove:
        return len(packable(run_dir, ours=ours))
    try:
        return pack_trial(run_dir, ours=ours)
    except ValueError as error:
        print(f"{run_dir}: nothing was packed: {error}")
        return 0


if __name__ == "__main__":
    main()
