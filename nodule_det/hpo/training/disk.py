"""Disk space of finished trials: remove checkpoints and pack small files.

study ──unneeded()──▶ checkpoints that are no longer needed
run folder ──pack()──▶ files.zip instead of logs, tables and figures

``last.pt`` is only needed to resume a training, so it is removed when its trial has finished.
``best.pt`` is kept for the trials with the best values.  Nothing is touched while a job of the
trial may still run.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from nodule_det.files import replacing
from nodule_det.hpo.study.study import Study, StudyFolder
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.training.files import read_claim, read_exit
from nodule_det.runs import RunFolder

ARCHIVE = "files.zip"
_KEPT = {"result.json", "metrics.jsonl", "overrides.txt", "best.pt", "last.pt", ARCHIVE}
_KEPT_OF_JOB = {"claim", "exit_code", "job.sh"}


def best_numbers(study: Study, n: int) -> set[int]:
    """Return the numbers of the ``n`` trials with the best values, earlier ones first."""
    scored = [(-t.value, t.number) for t in study.own if t.value is not None]
    return {number for _, number in sorted(scored)[:n]}


def is_over(trial: Trial, folder: StudyFolder) -> bool:
    """Return whether a trial has finished and, according to its files, no job of it runs."""
    if trial.pending:
        return False
    jobs = [folder.attempt(trial.number, a.number) for a in trial.attempts]
    return all(read_exit(job) is not None or read_claim(job) is None for job in jobs[-1:])


def unneeded(trial: Trial, folder: StudyFolder, best: set[int]) -> Iterator[Path]:
    """List the checkpoints of a finished trial that need not be kept.

    Args:
        trial: A trial for which :func:`is_over` is true.
        folder: Folder of the study.
        best: Numbers of the trials whose ``best.pt`` is kept.
    """
    run = RunFolder(folder.trial(trial.number))
    if run.checkpoint_last.is_file():
        yield run.checkpoint_last
    if trial.number not in best and run.checkpoint_best.is_file():
        yield run.checkpoint_best


def packable(run_dir: Path) -> list[Path]:
    """List the files of a finished trial that :func:`pack` puts into its archive.

    It excludes the result, the curve, the parameters, the checkpoints, and the script and outcome
    of the last job.
    """
    jobs = [p for p in run_dir.glob("attempt_*") if p.is_dir() and p.name[8:].isdecimal()]
    last = max(jobs, key=lambda p: int(p.name[8:]), default=None)
    found = [p for p in _files(run_dir) if p.parent != run_dir or p.name not in _KEPT]
    return [p for p in found if p.parent != last or p.name not in _KEPT_OF_JOB]


def pack(run_dir: Path) -> int:
    """Move the packable files of a finished trial into one archive; returns their number.

    A file is removed only after it is in the archive on the disk, with the right size.
    """
    files = packable(run_dir)
    archive = run_dir / ARCHIVE
    if files and not archive.exists():
        with (
            replacing(archive) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as out,
        ):
            for path in files:
                out.write(path, path.relative_to(run_dir).as_posix())
    packed = 0
    if files:
        with zipfile.ZipFile(archive) as made:
            sizes = {entry.filename: entry.file_size for entry in made.infolist()}
        for path in files:
            if sizes.get(path.relative_to(run_dir).as_posix()) == path.stat().st_size:
                path.unlink()
                packed += 1
    for folder, _, _ in os.walk(run_dir, topdown=False):
        if Path(folder) != run_dir and not os.listdir(folder):
            os.rmdir(folder)
    return packed


def _files(folder: Path) -> list[Path]:
    """List the regular files below a folder, without links."""
    found = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    return sorted(p for p in found if p.is_file() and not p.is_symlink())
