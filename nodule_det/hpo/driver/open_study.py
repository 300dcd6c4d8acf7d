"""Open a study for writing: create it, or check that its settings and folder have not changed.

HpoConfig ──new_header()──▶ Header ──open_study()──▶ StudyWriter   (inside StudyLock)
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig, StudyWas
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.forecast.forecast import require_validation
from nodule_det.hpo.dispatch import DISPATCHERS
from nodule_det.hpo.driver.recovery import recover
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.journal import read_journal
from nodule_det.hpo.study.objective import Constraint, Objective
from nodule_det.hpo.study.study import (
    Header,
    Study,
    StudyFolder,
    StudyWriter,
    original_of,
    previous_folder,
)
from nodule_det.hpo.study.trial import Reason
from nodule_det.hpo.training.check import check_space, with_params
from nodule_det.hpo.training.command import overrides
from nodule_det.progress import counted

DRAWN = 20
"""Random points of a search space that are compared with the store."""


def new_header(config: HpoConfig, now_s: float) -> Header:
    """Return the header of a new study, after checking its search space against the training.

    Raises:
        ConfigError: If the space does not fit the training.
    """
    space = read_space(config.search_space)
    if not config.command:
        check_space(space, config.train, processes_per_job=config.dispatcher.processes_per_job)
    return Header(
        id=secrets.token_hex(3),  # older PBS allows 15 characters in a job's name
        space=space,
        train=tuple(overrides(config.train, TrainConfig())),
        command=tuple(config.command),
        objective=Objective(
            config.objective,
            config.direction,
            tuple(Constraint(c.name, low=c.min, high=c.max) for c in config.constraints),
        ),
        created_s=now_s,
    )


def open_study(folder: StudyFolder, header: Header, now: Callable[[], float]) -> StudyWriter:
    """Create a study, or resume the existing one and recover trials that its journal has lost.

    Raises:
        StudyError: If the study was created with another space or other training settings.
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
    """Refuse a study in another folder than before, unless ``study_was`` explains it.

    A copy has the job names of its original: it would adopt, and cancel, jobs of the original.

    Raises:
        StudyError: If the study may be a copy or was moved.  Names its previous folder.
    """
    here = writer.folder.path
    before = previous_folder(writer.study, here)
    if before is None:
        return
    if was is StudyWas.copied:
        _make_copy(writer)
        return
    if original_of(writer.study, here) is not None:
        raise StudyError(
            f"study={here} is a copy of {before}, which still exists: its jobs belong to the "
            "original.  Continue there, or add study_was=copied once: the copy then starts its own "
            "jobs"
        )
    n_open = sum(t.attempt is not None for t in writer.study.pending)
    if n_open and was is not StudyWas.moved:
        raise StudyError(
            f"study={here} was last run in {before} and has {counted(n_open, 'open job')}, "
            "working there.  If the folder was moved, or has two paths, add study_was=moved once.  "
            "If this is a copy, add study_was=copied"
        )


def _make_copy(writer: StudyWriter) -> None:
    """Assign a new id to a copy, and end the attempts whose jobs belong to the original."""
    writer.write("copied", id=secrets.token_hex(3))
    for trial in writer.study.pending:
        if trial.attempt is not None:
            fields = {"trial": trial.number, "attempt": trial.attempt.number}
            writer.write("ended", **fields, reason=Reason.LOST)


def has_study(folder: StudyFolder) -> bool:
    """Return whether a folder has a study, even if only its first line."""
    return os.path.lexists(folder.journal) and read_journal(folder.journal).whole_bytes > 0


def require_reachable(study: Study, config: DispatcherConfig, place: str = "") -> None:
    """Refuse a batch system that cannot see the open jobs: they would run twice.

    Args:
        study: The study to resume.
        config: The batch system.
        place: The name of its cluster or server; empty if it has none.

    Raises:
        StudyError: If the jobs belong to another batch system, or for ``local`` another machine.
    """
    jobs = [t.attempt for t in study.pending if t.attempt is not None]
    if not jobs or not study.sessions:
        return
    last, kind = study.sessions[-1], config.kind
    if last.dispatcher != kind.value:
        raise StudyError(
            f"{counted(len(jobs), 'job')} of this study, submitted by "
            f"dispatcher.kind={last.dispatcher}, may still run, and dispatcher.kind={kind.value} "
            f"cannot see that.  Continue with {last.dispatcher} until none is left, or use "
            "stop=jobs there to cancel"
        )
    before = next((s.place for s in reversed(study.sessions) if s.place), "")
    if place and before and not _is_same_place(place, before):
        raise StudyError(
            f"{counted(len(jobs), 'job')} of this study, submitted to {before}, may still run, and "
            f"{place} cannot see that.  Continue from a login node of {before} until none is left, "
            "or use stop=jobs there to cancel"
        )
    away = [a for a in jobs if not DISPATCHERS[kind].knows(a.job)]
    here = socket.gethostname()
    if last.host != here and away and not config.host_gone:
        raise StudyError(
            f"{counted(len(away), 'job')} of this study on {last.host} may still run, and {here} "
            "cannot see that.  Continue there.  If that machine no longer exists, add "
            "dispatcher.host_gone=true once: its trainings then resume here"
        )


def _is_same_place(now: str, before: str) -> bool:
    """Compare names of servers; earlier versions recorded only the first 15 letters."""
    return now == before or (len(before) == 15 and now.startswith(before))


def missing_store(config: HpoConfig) -> str:
    """Return a warning if the store is not visible from here; other programs have their own data.

    Raises:
        ConfigError: If the trainings run here, so that all of them would fail.
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
        f"train.store={config.train.store} is not visible from {Path.cwd()} on this machine; the "
        "compute nodes must have it at that path"
    )


def refuse_unvalidated(config: HpoConfig, space: Space, points: Sequence[Params] = ()) -> None:
    """Refuse trainings without a lesion to validate on, where the store can be read from here.

    Args:
        config: The study.
        space: Its search space.
        points: The trainings of a plan; empty for a search, which is refused if this is true of
            ``DRAWN`` random points.

    Raises:
        ConfigError: As the training would.
    """
    if config.command or config.dispatcher.container:
        return
    rng = np.random.default_rng(0)
    refusals = []
    for point in points or [space.sample(rng) for _ in range(DRAWN)]:
        try:
            require_validation(with_params(config.train, point))
        except ConfigError as error:
            refusals.append(error)
        if len(refusals) == (1 if points else DRAWN):
            raise refusals[0]


def require_same(path: Path, old: Header, new: Header) -> None:
    """Refuse training settings that differ from those of the study.

    Raises:
        StudyError: If a setting differs.  Names the difference.
    """
    pairs = {
        "search_space": (old.space.as_dict()["parameters"], new.space.as_dict()["parameters"]),
        "train": (list(old.train), list(new.train)),
        "command": (list(old.command), list(new.command)),
        "objective": (_goal(old.objective), _goal(new.objective)),
        "constraints": (_limits(old.objective), _limits(new.objective)),
    }
    for name, (before, after) in pairs.items():
        if before != after:
            raise StudyError(
                f"study={path} was created with another {name}: {_difference(before, after)}.  "
                f"{_REMEDY[name]}"
            )


_COMPARE = (
    "Values of different trainings are not comparable: use the same settings, or another study"
)
_REMEDY = {
    "search_space": "Use the same space, or start another study and import the results: "
    "nodule_det.hpo.add study=NEW results=THIS",
    "train": _COMPARE,
    "command": _COMPARE,
    "objective": _COMPARE,
    "constraints": "Which trials are feasible depends on them: use the same ones, or another study",
}


def _goal(objective: Objective) -> str:
    return f"{objective.direction.value} {objective.name}"


def _limits(objective: Objective) -> list[dict[str, str | float]]:
    return [c.as_dict() for c in objective.constraints]


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
        return "; ".join(f"{n}: was {before.get(n)}, now {after.get(n)}" for n in names)
    return f"was {before}, now {after}"
