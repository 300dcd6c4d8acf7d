"""Open a study for writing: create it, or check that its settings and its folder are the same.

HpoConfig ──new_header()──▶ Header ──open_study()──▶ StudyWriter   (inside StudyLock)
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig, StudyWas
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.dispatch import DISPATCHERS
from nodule_det.hpo.driver.recovery import recover
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.study.journal import read_journal
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.study import Header, Study, StudyFolder, StudyWriter, read_study
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.check import check_space
from nodule_det.hpo.training.command import overrides


def new_header(config: HpoConfig, now_s: float) -> Header:
    """Describe a new study, after trying its search space on the settings of the training.

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
    """Create a study, or resume the existing one; trials that its journal lost come back.

    Raises:
        StudyError: If the study was created with another space or other trainings.
    """
    writer = StudyWriter(folder, now, None if has_study(folder) else header)
    try:
        require_same(folder.path, writer.study.header, header)
        recover(writer)
    except BaseException:
        writer.close()
        raise
    return writer


def require_in_place(writer: StudyWriter, was: StudyWas) -> None:
    """Refuse a study that came to another folder, unless the settings say how.

    A copy has the job names of its original: it would adopt, and cancel, jobs that are not its own.

    Raises:
        StudyError: Naming the folder in which it was driven before.
    """
    here = writer.folder.path
    known = [s.folder for s in writer.study.sessions if s.folder]
    if not known or _is_same_folder(Path(known[-1]), here):
        return
    before = StudyFolder(Path(known[-1]))
    if was is StudyWas.copied:
        _make_copy(writer)
        return
    if _holds(before, writer.study.header.id):
        raise StudyError(
            f"study={here} is a copy of {before.path}, which still exists: its jobs belong to the "
            "original.  Continue there, or add study_was=copied once: the copy then starts jobs of "
            "its own"
        )
    n_open = sum(t.attempt is not None for t in writer.study.pending)
    if n_open and was is not StudyWas.moved:
        raise StudyError(
            f"study={here} was driven in {before.path} and has {n_open} open jobs, which work "
            "there.  If the folder was moved, or has two paths, add study_was=moved once; if this "
            "is a copy, study_was=copied"
        )


def _is_same_folder(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:  # not there, or not to be seen from this machine
        return False


def _holds(folder: StudyFolder, study_id: str) -> bool:
    try:
        return read_study(folder.path).header.id == study_id
    except (StudyError, OSError):
        return False


def _make_copy(writer: StudyWriter) -> None:
    """Give a copy an id of its own, and end the attempts whose jobs belong to the original."""
    writer.write("copied", id=secrets.token_hex(3))
    for trial in writer.study.pending:
        if trial.attempt is not None:
            fields = {"trial": trial.number, "attempt": trial.attempt.number}
            writer.write("ended", **fields, reason=Reason.LOST)


def has_study(folder: StudyFolder) -> bool:
    """Return whether a folder holds a study, if only its first line."""
    return os.path.lexists(folder.journal) and read_journal(folder.journal).whole_bytes > 0


def require_reachable(study: Study, config: DispatcherConfig, place: str = "") -> None:
    """Refuse a batch system that cannot see the open jobs: they would run twice.

    Args:
        study: The study to resume.
        config: The batch system.
        place: The name of its cluster or server; empty if it has none.

    Raises:
        StudyError: If another one has them, or for ``local`` another machine.
    """
    jobs = [t.attempt for t in study.pending if t.attempt is not None]
    if not jobs or not study.sessions:
        return
    last, kind = study.sessions[-1], config.kind
    if last.dispatcher != kind.value:
        raise StudyError(
            f"{len(jobs)} jobs of this study were submitted by dispatcher.kind={last.dispatcher} "
            f"and may still run; dispatcher.kind={kind.value} cannot see them.  Continue with "
            f"{last.dispatcher} until they finish, or cancel them there with stop=jobs"
        )
    before = next((s.place for s in reversed(study.sessions) if s.place), "")
    if place and before and not _is_same_place(place, before):
        raise StudyError(
            f"{len(jobs)} jobs of this study were submitted to {before} and may still run; {place} "
            f"cannot see them.  Continue from a login node of {before} until they finish, or "
            "cancel them there with stop=jobs"
        )
    away = [a for a in jobs if not DISPATCHERS[kind].knows(a.job)]
    here = socket.gethostname()
    if last.host != here and away and not config.host_gone:
        raise StudyError(
            f"{len(away)} jobs of this study are processes of {last.host} and may still run; "
            f"{here} cannot see them.  Continue there.  If that machine is gone for good, add "
            "dispatcher.host_gone=true once: its trainings then resume here"
        )


def _is_same_place(now: str, before: str) -> bool:
    """Compare names of servers; earlier versions wrote the 15 letters that a table shows."""
    return now == before or (len(before) == 15 and now.startswith(before))


def missing_store(config: HpoConfig) -> str:
    """Return a warning if the scans cannot be seen from here; other programs have their own data.

    Raises:
        ConfigError: If the trainings run here and would all fail for it.
    """
    store, site = Path(config.train.store).expanduser(), config.dispatcher
    if config.command or store.exists():
        return ""
    if site.kind is DispatcherKind.local and not site.container:
        raise ConfigError(
            f"train.store={config.train.store} does not exist, so every training would fail; "
            "create it with python -m nodule_det.data, or set another path"
        )
    return (
        f"train.store={config.train.store} cannot be seen from {Path.cwd()} on this machine; the "
        "compute nodes must have it at that path"
    )


def require_same(path: Path, old: Header, new: Header) -> None:
    """Refuse training settings other than those the study was created with.

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
    "Values of different trainings cannot be compared: use the same settings, or another study"
)
_REMEDY = {
    "search_space": "Use the same space, or start another study and import the known results: "
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
