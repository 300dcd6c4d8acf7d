"""Cross-validation as a study: one trial per fold, run by the tuning driver.

    folds of the store ──fold_points()──▶ points ──training_plan()──▶ TrainingPlan
        ──run()──▶ driver ──require_complete()──▶ {name: RunFolder}

The driver already starts every job exactly once and survives kills at any moment.  So
cross-validation does no bookkeeping: it reads from the journal which folds are done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import yaml

from nodule_det.config.crossval import Selection
from nodule_det.config.hpo import (
    MAX_KEPT,
    AcquisitionConfig,
    DispatcherConfig,
    ForecastConfig,
    HpoConfig,
    KeepConfig,
    RetryConfig,
    Stop,
    Strategy,
    StudyWas,
)
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.files import write_text
from nodule_det.hpo.driver.forecast import SEARCH, Plan
from nodule_det.hpo.driver.open_study import has_study
from nodule_det.hpo.driver.session import drive
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.inbox import enqueue, enqueue_cancel, read_queue
from nodule_det.hpo.study.study import Study, StudyFolder, read_study
from nodule_det.hpo.study.trial import Trial, TrialState
from nodule_det.progress import counted
from nodule_det.runs import RunFolder

MOST_NAMED = 5
"""Number of trainings without a result that a message names."""


class JobSettings(Protocol):
    """Settings of a command that runs trainings as jobs."""

    workers: int
    study_was: StudyWas
    stop: Stop
    dry_run: bool
    dispatcher: DispatcherConfig
    retries: RetryConfig


@dataclass(frozen=True)
class TrainingPlan:
    """A study of given points."""

    study: HpoConfig
    points: Mapping[str, Params]
    """Name -> settings of each training."""
    outlook: Plan = SEARCH
    """What the driver knows of them beforehand."""
    without: str = ""
    """How to do without a training that keeps failing, for the message."""

    @property
    def folder(self) -> StudyFolder:
        """Folder of the trainings."""
        return StudyFolder(Path(self.study.study))

    @property
    def stopping(self) -> bool:
        """Whether the command only cancels the jobs."""
        return self.study.stop is not Stop.never


def fold_points(
    store: str, lesions: Mapping[int, int], wanted: Sequence[int], selection: Selection
) -> dict[int, Params]:
    """Return, for each fold to evaluate, the overrides of its training.

    Args:
        store: Path of the store, for messages.
        lesions: Number of lesions of each fold that has scans, in order of the folds.
        wanted: Folds to evaluate; empty means all.
        selection: Which scans choose the checkpoint.

    Raises:
        ConfigError: If the store has too few folds, lacks a requested one, or has no lesions to
            evaluate or to choose a checkpoint by.
    """
    folds = list(lesions)
    least = 3 if selection is Selection.other else 2
    if len(folds) < least:
        raise ConfigError(
            f"train.store={store} has {counted(len(folds), 'fold')}, but "
            f"selection={selection.value} needs at least {least}; split the store into more folds"
        )
    unknown = sorted(set(wanted) - set(folds))
    if unknown:
        raise ConfigError(
            f"folds={list(wanted)}: train.store={store} has no fold "
            f"{', '.join(map(str, unknown))}; it has {folds}"
        )
    points = {fold: _point(store, fold, lesions, selection) for fold in wanted or folds}
    if not any(lesions[fold] for fold in points):
        raise ConfigError(
            f"folds={list(points)}: train.store={store} has no lesions in "
            f"{'this fold' if len(points) == 1 else 'these folds'}, so there is no sensitivity to "
            "evaluate; add a fold with lesions"
        )
    return points


def _point(store: str, fold: int, lesions: Mapping[int, int], selection: Selection) -> Params:
    """Hold out a fold; the next one that has lesions chooses the checkpoint."""
    folds = list(lesions)
    after = folds.index(fold) + 1
    others = [*folds[after:], *folds[: after - 1]]
    for chooser in [fold] if selection is Selection.same else others:
        if lesions[chooser]:
            return {"fold": fold} if chooser == fold else {"fold": chooser, "test_fold": fold}
    raise ConfigError(
        f"train.store={store} has no lesions to choose the checkpoint of fold {fold} by with "
        f"selection={selection.value}; leave the fold out (folds=[...]), or split the store into "
        "fewer folds"
    )


def fold_parameters(folds: Collection[int], selection: Selection) -> dict[str, Any]:
    """Return the parameters of a search space that select the held-out folds."""
    names = ("fold",) if selection is Selection.same else ("fold", "test_fold")
    return {name: {"kind": "categorical", "values": list(folds)} for name in names}


def training_plan(
    out: Path,
    parameters: Mapping[str, Any],
    points: Mapping[str, Params],
    jobs: JobSettings,
    train: TrainConfig,
    outlook: Plan,
    *,
    without: str,
) -> TrainingPlan:
    """Plan one training per point, as a study in ``out/trainings``.

    Args:
        out: Output folder of the command; the search space is written there.
        parameters: The search space of the points, as in a YAML file.
        points: Name -> settings of each training.
        jobs: How trainings become jobs.
        train: Settings that all trainings share.
        outlook: The command, and how fast such trainings ran before.
        without: How to do without a training that keeps failing.
    """
    study, space = StudyFolder(out / "trainings"), out / "space.yaml"
    content: dict[str, Any] = {"parameters": dict(parameters)}
    if jobs.dry_run:  # a dry run has no queue, so the points come from the space
        content["first"] = list(points.values())
    out.mkdir(parents=True, exist_ok=True)
    write_text(space, yaml.safe_dump(content, sort_keys=False))
    return TrainingPlan(
        HpoConfig(
            study=str(study.path),
            workers=jobs.workers,
            trials=n_others(study, points) + len(points),
            search_space=str(space),
            study_was=jobs.study_was,
            stop=jobs.stop,
            dry_run=jobs.dry_run,
            acquisition=AcquisitionConfig(strategy=Strategy.random),
            keep=KeepConfig(best=MAX_KEPT, pack=False),  # every training is used, not only the best
            dispatcher=jobs.dispatcher,
            retries=jobs.retries,
            forecast=ForecastConfig(refuse=False),  # a fold cannot be replaced by a cheaper one
            train=train,
        ),
        points,
        replace(outlook, points=tuple(points.values())),
        without,
    )


def run(plan: TrainingPlan) -> int | None:
    """Run the missing trainings, or cancel the running ones if the command says so.

    Returns:
        The exit code of the command; None if all of them have ended.

    Raises:
        NoduleDetError: If a setting is refused; nothing is queued then.
    """
    return drive(plan.study, replace(plan.outlook, enqueue=partial(enqueue_missing, plan)))


def _trials(folder: StudyFolder, point: Params) -> list[Trial]:
    """Return the trials of a point, oldest first."""
    if not has_study(folder):
        return []
    return [trial for trial in read_study(folder.path).trials if trial.params == point]


def n_others(folder: StudyFolder, points: Mapping[str, Params]) -> int:
    """Count the trials of the study that are not a running or complete training of these points.

    These are failed ones, which make space for another attempt, and those of other folds that have
    had a job.
    """
    if not has_study(folder):
        return 0
    study, wanted = read_study(folder.path), list(points.values())
    kept = [t for t in study.own if t.pending or t.state is TrialState.COMPLETE]
    n_wanted = sum(trial.params in wanted for trial in kept)
    return study.n_counted - n_wanted - len(_superfluous(study, points))


def _superfluous(study: Study, points: Mapping[str, Params]) -> list[Trial]:
    """List the trials of an earlier command that never had a job and are not wanted any more."""
    wanted = list(points.values())
    return [t for t in study.pending if not t.attempts and t.params not in wanted]


def _has_result(folder: StudyFolder, trial: Trial) -> bool:
    """Return whether a trial is complete; a user may have deleted its folder to train it again."""
    return trial.state is TrialState.COMPLETE and folder.trial(trial.number).is_dir()


def _counts(folder: StudyFolder, trial: Trial) -> bool:
    """Return whether a trial is complete, or will be if nothing fails."""
    return _has_result(folder, trial) or (trial.pending and not trial.cancelling)


def enqueue_missing(plan: TrainingPlan) -> None:
    """Queue the points that have no running or complete training, so that failed ones are retried.

    The name of the entry is the first of its point that no trial was made from, so a command that
    was killed between queueing and submitting does not queue anything twice.  What another command
    has left in the queue, with other folds or settings, is removed or cancelled unless it has had a
    job.
    """
    space = read_space(plan.study.search_space)
    used: set[str] = set()
    if has_study(plan.folder):
        study = read_study(plan.folder.path)
        used = study.origins
        for entry in read_queue(plan.folder.queue, study.space, study.objective):
            if entry.params is not None and entry.params not in plan.points.values():
                entry.path.unlink(missing_ok=True)
        for trial in _superfluous(study, plan.points):
            enqueue_cancel(plan.folder.queue, trial.number)
    for name, point in plan.points.items():
        trials = _trials(plan.folder, point)
        if not any(_counts(plan.folder, trial) for trial in trials):
            names = (f"{name}_{k}.json" for k in count())
            file = next(file for file in names if file not in used)
            enqueue(plan.folder.queue, space.check(point), file)


def is_complete(plan: TrainingPlan) -> bool:
    """Return whether every point has a complete training."""
    of_points = (_trials(plan.folder, point) for point in plan.points.values())
    return all(any(_has_result(plan.folder, t) for t in trials) for trials in of_points)


def require_complete(plan: TrainingPlan) -> dict[str, RunFolder]:
    """Return the run folder of each point.

    Raises:
        StudyError: If a point has no complete training.  Names the reason of its last attempt.
    """
    runs: dict[str, RunFolder] = {}
    missing: list[str] = []
    for name, point in plan.points.items():
        trials = _trials(plan.folder, point)
        done = [t for t in trials if _has_result(plan.folder, t)]
        if done:
            runs[name] = RunFolder(plan.folder.trial(done[-1].number))
        else:
            why = f"{trials[-1].state}: {trials[-1].message or trials[-1].reason}" if trials else ""
            missing.append(f"{name} {why or 'was not trained'}")
    if missing:
        named = [*missing[:MOST_NAMED], *(["..."] if len(missing) > MOST_NAMED else [])]
        raise StudyError(
            f"{len(missing)} of {counted(len(plan.points), 'training')} "
            f"{'has' if len(missing) == 1 else 'have'} no result: {'; '.join(named)}.  The jobs' "
            f"logs are in {plan.folder.trials}.  The same command runs these trainings again"
            f"{plan.without and f', and {plan.without}'}"
        )
    return runs
