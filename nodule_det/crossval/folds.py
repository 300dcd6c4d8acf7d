"""Cross-validation as a study: one trial per fold, run by the driver of tuning.

    CrossvalConfig, folds of the store ──fold_study()──▶ FoldPlan ──driver──▶ {fold: RunFolder}

The driver already starts every job exactly once and survives kills at any moment, so
cross-validation has no bookkeeping of its own: which folds are done is read from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from nodule_det.config.crossval import CrossvalConfig, Selection
from nodule_det.config.hpo import AcquisitionConfig, ForecastConfig, HpoConfig, Stop, Strategy
from nodule_det.errors import ConfigError, StudyError
from nodule_det.files import write_text
from nodule_det.hpo.driver.open_study import has_study
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.inbox import enqueue
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.study.trial import Trial, TrialState
from nodule_det.runs import RunFolder


@dataclass(frozen=True)
class FoldPlan:
    """The study of a cross-validation."""

    study: HpoConfig
    points: Mapping[int, Params]
    """For each fold to evaluate, the settings of its training."""

    @property
    def folder(self) -> StudyFolder:
        """Where the trainings are."""
        return StudyFolder(Path(self.study.study))

    @property
    def stopping(self) -> bool:
        """Whether the jobs are only to be cancelled."""
        return self.study.stop is not Stop.never


def fold_study(config: CrossvalConfig, folds: Sequence[int], out: Path) -> FoldPlan:
    """Plan one training per fold.

    Args:
        config: What is asked for.
        folds: Folds of the store that have scans.
        out: Folder of the cross-validation; its search space is written there.

    Raises:
        ConfigError: If the store has too few folds, or lacks one that is asked for.
    """
    least = 3 if config.selection is Selection.other else 2
    if len(folds) < least:
        raise ConfigError(
            f"train.store={config.train.store} has {len(folds)} folds, and selection="
            f"{config.selection.value} needs at least {least}; split the store into more folds "
            "(splits.folds of nodule_det.data)"
        )
    unknown = sorted(set(config.folds) - set(folds))
    if unknown:
        raise ConfigError(
            f"folds={list(config.folds)}: the store {config.train.store} has no fold "
            f"{', '.join(map(str, unknown))}; it has {list(folds)}"
        )
    wanted = config.folds or list(folds)
    points = {fold: _point(fold, folds, config.selection) for fold in wanted}
    study = StudyFolder(out / "trainings")
    space = out / "folds.yaml"
    out.mkdir(parents=True, exist_ok=True)
    content = _space(folds, config.selection)
    if config.dry_run:  # which has no queue, so that the points come from the space
        content["first"] = list(points.values())
    write_text(space, yaml.safe_dump(content, sort_keys=False))
    return FoldPlan(
        HpoConfig(
            study=str(study.path),
            workers=config.workers,
            trials=_n_failed(study, points) + len(points),
            search_space=str(space),
            stop=config.stop,
            dry_run=config.dry_run,
            acquisition=AcquisitionConfig(strategy=Strategy.random),
            dispatcher=config.dispatcher,
            retries=config.retries,
            forecast=ForecastConfig(refuse=False),  # a fold has no cheaper substitute
            train=config.train,
        ),
        points,
    )


def _point(fold: int, folds: Sequence[int], selection: Selection) -> Params:
    """Return the overrides of the training that is evaluated on a fold."""
    if selection is Selection.same:
        return {"fold": fold}
    chooser = folds[(folds.index(fold) + 1) % len(folds)]
    return {"fold": chooser, "test_fold": fold}


def _space(folds: Sequence[int], selection: Selection) -> dict[str, object]:
    names = ("fold",) if selection is Selection.same else ("fold", "test_fold")
    listed = {"kind": "categorical", "values": list(folds)}
    return {"parameters": {name: dict(listed) for name in names}}


def _trials(folder: StudyFolder, point: Params) -> list[Trial]:
    """Return the trials of a fold, oldest first."""
    if not has_study(folder):
        return []
    return [trial for trial in read_study(folder.path).trials if trial.params == point]


def _n_failed(folder: StudyFolder, points: Mapping[int, Params]) -> int:
    trials = [trial for point in points.values() for trial in _trials(folder, point)]
    return sum(not t.pending and t.state is not TrialState.COMPLETE for t in trials)


def enqueue_missing(plan: FoldPlan) -> None:
    """Queue the folds that have no running or complete training; failed ones are tried again.

    The name of the entry counts the attempts of its fold, so a command that was killed between
    queueing and submitting queues nothing twice.
    """
    space = read_space(plan.study.search_space)
    for fold, point in plan.points.items():
        trials = _trials(plan.folder, point)
        if not any(t.pending or t.state is TrialState.COMPLETE for t in trials):
            enqueue(plan.folder.queue, space.check(point), f"fold{fold}_{len(trials)}.json")


def require_complete(plan: FoldPlan) -> dict[int, RunFolder]:
    """Return the run folder of each fold.

    Raises:
        StudyError: If a fold has no complete training, with the reason of its last one.
    """
    runs: dict[int, RunFolder] = {}
    missing: list[str] = []
    for fold, point in plan.points.items():
        trials = _trials(plan.folder, point)
        done = [t for t in trials if t.state is TrialState.COMPLETE]
        if done:
            runs[fold] = RunFolder(plan.folder.trial(done[-1].number))
        else:
            why = f"{trials[-1].state}: {trials[-1].message or trials[-1].reason}" if trials else ""
            missing.append(f"fold {fold} {why or 'was not trained'}")
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(plan.points)} folds have no result: {'; '.join(missing)}.  "
            f"The jobs' logs are in {plan.folder.trials}; the same command trains these folds again"
        )
    return runs
