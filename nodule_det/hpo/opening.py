"""Open a study for writing: make it, or check that the settings are still those it was made with.

HpoConfig ──new_header()──▶ Header ──open_study()──▶ StudyWriter   (inside StudyLock)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from nodule_det.config.hpo import HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.journal import read_journal
from nodule_det.hpo.objective import check_space, overrides
from nodule_det.hpo.recovering import recover
from nodule_det.hpo.space_file import read_space
from nodule_det.hpo.study import Header, StudyFolder, StudyWriter


def new_header(config: HpoConfig, now_s: float) -> Header:
    """Say what a study is to be, after trying its search space on the settings of the training.

    Raises:
        ConfigError: If the space does not suit the training.
    """
    space = read_space(config.search_space)
    if not config.command:
        check_space(space, config.train)
    return Header(
        id=secrets.token_hex(3),  # older PBS allows 15 characters in a job's name
        space=space,
        train=tuple(overrides(config.train, TrainConfig())),
        command=tuple(config.command),
        created_s=now_s,
    )


def open_study(folder: StudyFolder, header: Header, now: Callable[[], float]) -> StudyWriter:
    """Make a study, or go on with the one that is there; trials that its journal lost come back.

    Raises:
        StudyError: If the study was made with another space or other trainings.
    """
    writer = StudyWriter(folder, now, None if has_study(folder) else header)
    try:
        _require_same(folder.path, writer.study.header, header)
        recover(writer)
    except BaseException:
        writer.close()
        raise
    return writer


def has_study(folder: StudyFolder) -> bool:
    """Say whether a folder holds a study, if only its first line."""
    return folder.journal.exists() and read_journal(folder.journal).whole_bytes > 0


def _require_same(path: Path, old: Header, new: Header) -> None:
    pairs = {
        "search_space": (old.space.as_dict()["parameters"], new.space.as_dict()["parameters"]),
        "train": (list(old.train), list(new.train)),
        "command": (list(old.command), list(new.command)),
    }
    for name, (before, after) in pairs.items():
        if before != after:
            raise StudyError(
                f"study={path} was made with another {name}: {_difference(before, after)}.  Values "
                "of different trainings cannot be compared: give the same settings, or start "
                "another study and take over what is known by nodule_det.hpo.add results="
                f"{path}"
            )


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
        return "; ".join(f"{n}: {before.get(n)} then, {after.get(n)} now" for n in names)
    return f"{before} then, {after} now"
