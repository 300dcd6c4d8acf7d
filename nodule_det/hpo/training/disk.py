"""Disk space of finished trials: which checkpoints to remove, and which small files to pack.

study ──unneeded()──▶ checkpoints that are no longer needed
run folder ──packable()──▶ logs, tables and figures ──pack()──▶ files.zip

``last.pt`` is only needed to resume a training, so it is removed when its trial has finished.
``best.pt`` is kept for the trials with the best values.  Nothing is touched while a job of the
trial may still run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nodule_det.hpo.study.study import Study, StudyFolder
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.training.files import read_claim, read_exit
from nodule_det.packing import pack
from nodule_det.runs import RunFolder

_KEPT_OF_LAST_JOB = frozenset({"claim", "exit_code", "abandoned", "job.log"})
"""Messages about a failed training name its log."""
_KEPT_OF_LOST_JOB = frozenset({"claim", "abandoned"})
"""Without its folder, a job that still runs could not record its end."""


def best_numbers(study: Study, n: int) -> set[int]:
    """Return the numbers of the ``n`` trials with the best values, earlier ones first."""
    scored = [(-t.value, t.number) for t in study.own if t.value is not None]
    return {number for _, number in sorted(scored)[:n]}


def is_over(trial: Trial, folder: StudyFolder) -> bool:
    """Return whether a trial has finished and, according to its files, no job of it runs."""
    if trial.pending:
        return False
    jobs = [folder.attempt(trial.number, a.number) for a in trial.attempts]
    return all(not _may_run(job) for job in jobs[-1:])


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


def packable(run_dir: Path, *, ours: bool) -> list[Path]:
    """List the files of a finished trial that need not stay outside its archive.

    They exclude the result, the curve, the parameters, the checkpoints, the log and outcome of the
    last job, and whatever the job of an earlier attempt needs that may still run.  Files that the
    training did not write are excluded as well.

    Args:
        run_dir: Run folder of the trial.
        ours: Whether the training was ``nodule_det.train``.  If not, only files of its jobs are
            listed.
    """
    run, jobs = RunFolder(run_dir), _jobs(run_dir)
    small = (*run.tables_and_figures, *run.test.tables_and_figures) if ours else ()
    found = [path for path in small if path.is_file()]
    for job in jobs:
        kept = _KEPT_OF_LOST_JOB if _may_run(job) else frozenset()
        kept = _KEPT_OF_LAST_JOB if job == jobs[-1] else kept
        found += [p for p in sorted(job.iterdir()) if p.name not in kept]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def pack_trial(run_dir: Path, *, ours: bool) -> int:
    """Pack the files of a finished trial, and remove empty folders; returns the number of files.

    Raises:
        ValueError: If there is a damaged archive.
    """
    packed = pack(run_dir, packable(run_dir, ours=ours))
    for folder in (*_jobs(run_dir), RunFolder(run_dir).test.path):
        if folder.is_dir() and not folder.is_symlink() and not os.listdir(folder):
            os.rmdir(folder)
    return packed


def _jobs(run_dir: Path) -> list[Path]:
    """List the folders of a trial's jobs, the last one last."""
    found = [p for p in run_dir.glob("attempt_*") if p.is_dir() and p.name[8:].isdecimal()]
    return sorted((p for p in found if not p.is_symlink()), key=lambda p: int(p.name[8:]))


def _may_run(job: Path) -> bool:
    return read_exit(job) is None and read_claim(job) is not None
