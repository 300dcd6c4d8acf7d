"""``python -m nodule_det.hpo.prune``: free the disk space that finished trials no longer need.

The driver removes checkpoints automatically (``keep.best``).  This command also does so for studies
of earlier versions, and packs the small files of a trial into one, for file systems that limit the
number of files.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from nodule_det.cli import command
from nodule_det.config.hpo_tools import PruneConfig
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.training.disk import best_numbers, is_over, pack, packable, unneeded


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
        if config.pack and trial.number not in best:
            n = _pack(folder.trial(trial.number), remove=config.remove)
            n_files += n
            n_trials += n > 0
    what = f"{n_checkpoints} checkpoints ({freed / 1e9:.2f} GB)"
    files = f"{n_files} small files of {n_trials} trials into one archive each"
    if config.remove:
        print(f"{folder.path}: removed {what}, packed {files}")
    else:
        print(f"{folder.path}: can remove {what} and pack {files}; add remove=true to do it")


def _pack(run_dir: Path, *, remove: bool) -> int:
    if not remove:
        return len(packable(run_dir))
    try:
        return pack(run_dir)
    except zipfile.BadZipFile:
        print(f"{run_dir}: files.zip is damaged, so nothing was packed; remove it and try again")
        return 0


if __name__ == "__main__":
    main()
