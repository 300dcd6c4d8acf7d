"""Open a study for writing: make it, or check that the settings are still those it was made with.

HpoConfig ──new_header()──▶ Header ──open_study()──▶ StudyWriter   (inside StudyLock)
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.dispatch import DISPATCHERS
from nodule_det.hpo.driver.recovery import recover
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.study.journal import read_journal
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.study import Header, Study, StudyFolder, StudyWriter
from nodule_det.hpo.training.check import check_space
from nodule_det.hpo.training.command import overrides


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
        objective=Objective(config.objective, config.direction),
        created_s=now_s,
    )


def open_study(folder: StudyFolder, header: Header, now: Callable[[], float]) -> StudyWriter:
    """Make a study, or go on with the one that is there; trials that its journal lost come back.

    Raises:
        StudyError: If the study was made with another space or other trainings.
    """
    writer = StudyWriter(folder, now, None if has_study(folder) else header)
    try:
        require_same(folder.path, writer.study.header, header)
        recover(writer)
    except BaseException:
        writer.close()
        raise
    return writer


def has_study(folder: StudyFolder) -> bool:
    """Say whether a folder holds a study, if only its first line."""
    return os.path.lexists(folder.journal) and read_journal(folder.journal).whole_bytes > 0


def require_reachable(study: Study, config: DispatcherConfig, place: str = "") -> None:
    """Refuse a batch system that does not know the jobs which are open: they would run twice.

    Args:
        study: What is to be gone on with.
        config: The batch system.
        place: The name of its cluster or server; empty if it tells none.

    Raises:
        StudyError: If another one has them, or another machine, for ``local``.
    """
    jobs = [t.attempt for t in study.pending if t.attempt is not None]
    if not jobs or not study.sessions:
        return
    last, kind = study.sessions[-1], config.kind
    if last.dispatcher != kind.value:
        raise StudyError(
            f"{len(jobs)} jobs of this study were given to {last.dispatcher} and may still run, "
            f"which dispatcher.kind={kind.value} cannot know: go on by a dispatcher of kind "
            f"{last.dispatcher} until they are over, or cancel them there by stop=jobs"
        )
    before = next((s.place for s in reversed(study.sessions) if s.place), "")
    if place and before and place != before:
        raise StudyError(
            f"{len(jobs)} jobs of this study were given to {before} and may still run, which "
            f"{place} cannot know: go on from a login node of {before} until they are over, or "
            "cancel them there by stop=jobs"
        )
    away = [a for a in jobs if not DISPATCHERS[kind].knows(a.job)]
    here = socket.gethostname()
    if last.host != here and away and not config.host_gone:
        raise StudyError(
            f"{len(away)} jobs of this study are processes of {last.host} and may still run, which "
            f"{here} cannot know: go on there, or, should that machine be gone for good, give "
            "dispatcher.host_gone=true once: its trainings then go on here"
        )


def missing_store(config: HpoConfig) -> str:
    """Say that the scans cannot be seen from here, or nothing; other commands have their own.

    Raises:
        ConfigError: If the trainings run here and would all fail for it.
    """
    store, site = Path(config.train.store).expanduser(), config.dispatcher
    if config.command or store.exists():
        return ""
    if site.kind is DispatcherKind.local and not site.container:
        raise ConfigError(
            f"train.store={config.train.store} is not there, and every training would fail; make "
            "it by python -m nodule_det.data, or name another one"
        )
    return (
        f"train.store={config.train.store} cannot be seen from {Path.cwd()} on this machine; the "
        "compute nodes must have it at that path"
    )


def require_same(path: Path, old: Header, new: Header) -> None:
    """Refuse settings of trainings that are not those a study was made with.

    Raises:
        StudyError: Naming the difference.
    """
    pairs = {
        "search_space": (old.space.as_dict()["parameters"], new.space.as_dict()["parameters"]),
        "train": (list(old.train), list(new.train)),
        "command": (list(old.command), list(new.command)),
        "objective": (_goal(old.objective), _goal(new.objective)),
    }
    for name, (before, after) in pairs.items():
        if before != after:
            raise StudyError(
                f"study={path} was made with another {name}: {_difference(before, after)}.  "
                f"{_REMEDY[name]}"
            )


_COMPARE = (
    "Values of different trainings cannot be compared: give the same settings, or another study"
)
_REMEDY = {
    "search_space": "Give the same space, or start another study and take over what is known: "
    "nodule_det.hpo.add study=NEW results=THIS",
    "train": _COMPARE,
    "command": _COMPARE,
    "objective": _COMPARE,
}


def _goal(objective: Objective) -> str:
    return f"{objective.direction.value} {objective.name}"


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
        return "; ".join(f"{n}: {before.get(n)} then, {after.get(n)} now" for n in names)
    return f"{before} then, {after} now"
