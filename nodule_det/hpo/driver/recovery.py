"""Recover trials whose folders exist but whose journal records are lost.

    trials/0017/overrides.txt, attempt_2/ ──recover()──▶ asked, intent ──▶ settled like any other

A trial is recorded before its folder is created.  So a folder without a record means that more than
a truncated line is missing: a backup was restored, or a file system lost synced data.  If its
number were used again, the result of one point would be taken for that of another.
"""

from __future__ import annotations

import re
from pathlib import Path

from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.study.study import StudyWriter
from nodule_det.hpo.study.trial import Source, Trial
from nodule_det.hpo.training.command import read_params


def recover(writer: StudyWriter) -> None:
    """Record again every trial and job that only exists as a folder.

    The outcome of such a job is read from its files or queried from the batch system, as for any
    submission without an answer.  Lost trials are reported among the study's problems.
    """
    known = {t.number for t in writer.study.trials}
    for folder in sorted(writer.folder.trials.glob("[0-9]*")):
        number = _number(folder.name)
        if number and number not in known:
            _recover(writer, number, folder)
    for trial in writer.study.pending:
        if trial.attempt is None:
            _recover_job(writer, trial)


def _recover(writer: StudyWriter, number: int, folder: Path) -> None:
    study = writer.study
    lost = f"the journal has lost trial {number}, whose folder is {folder}"
    try:
        study.reserve(number)
        params = read_params(folder, study.space)
    except (ConfigError, StudyError, OSError, ValueError) as error:
        study.problems.append(f"{lost}; it cannot be recovered: {error}")
        return
    writer.write("asked", trial=number, params=params, source=Source.RECOVERED)
    study.problems.append(f"{lost}; it was recovered from there")


def _recover_job(writer: StudyWriter, trial: Trial) -> None:
    names = [p.name for p in writer.folder.trial(trial.number).glob("attempt_*")]
    last = max((_number(name[8:]) for name in names), default=0)
    if last >= trial.next_attempt:
        name = writer.study.header.job_name(trial.number, last)
        writer.write("intent", trial=trial.number, attempt=last, name=name)


def _number(text: str) -> int:
    """Read the number of a folder; 0 for any other name."""
    return int(text) if re.fullmatch(r"[0-9]{1,7}", text, re.ASCII) else 0
