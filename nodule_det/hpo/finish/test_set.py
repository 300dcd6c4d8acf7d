"""The chosen model on the test set: one job, which the driver of tuning starts exactly once.

    model, store ──scoring_plan()──▶ TrainingPlan ──driver──▶ RunFolder ──figures_of()──▶ figures

Each model that is ever tested for a study has its own folder, named by its weights, in the study.
So a command that was killed at any moment tests the same model no second time, and the number of
folders says how often the test set was used.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import yaml

from nodule_det.config.hpo import (
    AcquisitionConfig,
    ForecastConfig,
    HpoConfig,
    Stop,
    Strategy,
)
from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.config.train import CandidateConfig, TrainConfig
from nodule_det.crossval.folds import TrainingPlan, n_others
from nodule_det.crossval.pool import read_figures
from nodule_det.ensemble.folder import digest, read_model
from nodule_det.errors import StudyError, TableError
from nodule_det.files import write_text
from nodule_det.hpo.driver.forecast import Plan
from nodule_det.hpo.driver.open_study import has_study
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.training.command import overrides
from nodule_det.origin import TEST_ONCE
from nodule_det.runs import RunFolder

NAME = "test"
"""Folder of the tests in a study, and key of their figures."""
POINT: dict[str, Any] = {"views": 1}
SPACE = {"parameters": {"views": {"kind": "categorical", "values": [1, 8]}}}
"""A study needs a parameter; the one job is at ``POINT``."""


def scoring_plan(
    config: FinishConfig, study: Path, model: Path, train: TrainConfig
) -> TrainingPlan:
    """Plan the one job that scores a model on the test set.

    Args:
        config: Dispatcher and retries.
        study: Folder of the study that is finished.
        model: Model folder.
        train: Settings of the model's trainings; the store, device and candidates are theirs.

    Raises:
        CheckpointError: If the model is damaged.
    """
    folder = StudyFolder(study / NAME / _name_of(model))
    folder.path.mkdir(parents=True, exist_ok=True)
    space = study / NAME / "space.yaml"
    write_text(space, yaml.safe_dump(SPACE, sort_keys=False))
    points = {NAME: POINT}
    command = [
        *(config.dispatcher.python or sys.executable, "-m", "nodule_det.score"),
        f"model={model}",
        f"store={train.store}",
        f"device={train.device.value}",
        f"precision={train.precision.value}",
        *([f"factory={config.factory}"] if config.factory else []),
        *overrides(train.candidates, CandidateConfig(), "candidates."),
    ]
    if config.stop is not Stop.never and has_study(folder):
        command = list(read_study(folder.path).header.command)  # only its jobs are cancelled
    plan = HpoConfig(
        study=str(folder.path),
        trials=n_others(folder, points) + 1,
        search_space=str(space),
        study_was=config.study_was,
        stop=config.stop,
        command=command,
        acquisition=AcquisitionConfig(strategy=Strategy.random),
        dispatcher=config.dispatcher,
        retries=config.retries,
        forecast=ForecastConfig(refuse=False),
    )
    return TrainingPlan(plan, points, Plan("hpo.finish", (POINT,)))


def _name_of(model: Path) -> str:
    """Name a model by its weights."""
    whole = hashlib.sha256()
    for member in read_model(model).members:
        whole.update(bytes.fromhex(digest(member)))
    return whole.hexdigest()[:12]


def figures_of(run: RunFolder, tests: Path) -> dict[str, Any]:
    """Return the figures of a test, with a label that says how often the test set was used.

    Args:
        run: The complete test.
        tests: Folder of all tests of the study.

    Raises:
        StudyError: If ``froc.json`` is missing or damaged.
    """
    try:
        figures = read_figures(run.froc)
    except TableError as error:
        raise StudyError(f"{error}; delete {run.path} to test the model again") from None
    if figures["pauc"] is None:
        raise StudyError(f"{run.froc} has no pAUC; delete {run.path} to test the model again")
    n = sum(has_study(StudyFolder(path)) for path in tests.glob("*/"))
    label = TEST_ONCE if n == 1 else f"test, the {_ordinal(n)} model on this test set"
    return {"label": label, **figures}


def _ordinal(n: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{'th' if 10 < n % 100 < 20 else ending}"
