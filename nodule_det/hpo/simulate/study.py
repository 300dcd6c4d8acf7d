"""One study of simulated trainings in virtual time: the real driver on a batch system in memory.

    Objective, strategy, workers ──run_study()──▶ a study on disk
                                 ──simulate()───▶ Finished trials in the order in which they ended

The course of a job depends only on the function, the repetition and the number of the trial, so all
strategies get the same first points, noise and node crashes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, DispatcherConfig, HpoConfig
from nodule_det.hpo.driver.clock import VirtualClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.simulate.dispatcher import FakeDispatcher, FakeRun, Faults
from nodule_det.hpo.simulate.functions import CRASHES, Objective
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.strategy.strategy import Propose
from nodule_det.hpo.study.study import Header, Study, StudyFolder, StudyWriter
from nodule_det.hpo.study.trial import Trial, TrialState

FIRST_POINTS = 3
"""Number of random points with which every strategy starts, as in the poster."""
POLL_S = 30.0
START_S = 1_800_000_000.0


@dataclass(frozen=True)
class Finished:
    """A finished trial of a simulated study."""

    jobs: int
    """Number of trials that had ended, including this one."""
    hours: float
    """Time since the start of the study."""
    node_hours: float
    """Run time of this trial."""
    state: TrialState
    value: float | None
    best: float
    """Largest value seen so far; 0 before the first."""
    truth_of_best: float
    """Noise-free score of the point with that value."""


@dataclass(frozen=True)
class Run:
    """One simulated study and its settings."""

    strategy: str
    workers: int
    function: int
    repetition: int
    rows: list[Finished]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Settings of a simulated study."""

    workers: int = 1
    jobs: int = 100
    repetition: int = 0
    acquisition: AcquisitionConfig


def simulate(objective: Objective, propose: Propose, plan: Plan) -> list[Finished]:
    """Run a study of simulated trainings to its end, and return the data of its curves.

    Args:
        objective: The function to tune.
        propose: The strategy.
        plan: Its settings; the seed of the repetition replaces that of the acquisition.
    """
    with tempfile.TemporaryDirectory(prefix="simulated_study") as path:
        return summarise(objective, run_study(objective, propose, plan, Path(path)).trials)


def run_study(objective: Objective, propose: Propose, plan: Plan, path: Path) -> Study:
    """Run a study of simulated trainings in a folder, and leave the files of a real study there.

    Args:
        objective: The function to tune.
        propose: The strategy.
        plan: Its settings; see :func:`simulate`.
        path: Folder of the study; it must exist and be empty.
    """
    seed = [objective.number, plan.repetition]
    acquisition = replace(plan.acquisition, seed=1000 * objective.number + plan.repetition)
    rng = np.random.default_rng(seed)
    first = tuple(objective.space.sample(rng) for _ in range(FIRST_POINTS))
    space = replace(objective.space, first=first)
    crashed = {i: float(rng.random()) for i in range(2 * plan.jobs) if rng.random() < CRASHES}

    def train(overrides: Params, attempt: int) -> FakeRun:
        number = int(Path(str(overrides["run_dir"])).name)
        params = {p.name: overrides[p.name] for p in space.parameters if p.name in overrides}
        return objective.train(params, np.random.default_rng([*seed, number, attempt]))

    clock = VirtualClock(START_S)
    batch = FakeDispatcher(clock, train, faults=Faults(crash_after=crashed))
    config = HpoConfig(
        study=str(path),
        workers=plan.workers,
        trials=plan.jobs,
        acquisition=acquisition,
        dispatcher=DispatcherConfig(poll_s=POLL_S, grace_s=POLL_S),
    )
    header = Header(id="simulated", space=space, created_s=START_S)
    writer = StudyWriter(StudyFolder(path), clock.now, header)
    try:
        writer.start_session(plan.workers, "simulated", plan.acquisition.failures)
        context = DriverContext(
            writer=writer,
            dispatcher=batch,
            propose=propose,
            config=config,
            clock=clock,
            workdir=path,
        )
        Driver(context).run()
        return writer.study
    finally:
        writer.close()


def summarise(objective: Objective, trials: Sequence[Trial]) -> list[Finished]:
    """Return the finished trials in order, each with the best value so far."""
    rows: list[Finished] = []
    best, truth = 0.0, 0.0
    ended = sorted((t for t in trials if not t.pending), key=lambda t: t.finished_s or 0.0)
    for jobs, trial in enumerate(ended, 1):
        if trial.value is not None and trial.value > best:
            best, truth = trial.value, float(objective.truth([trial.params])[0])
        hours = ((trial.finished_s or START_S) - START_S) / 3600
        node_hours = trial.seconds / 3600
        rows.append(Finished(jobs, hours, node_hours, trial.state, trial.value, best, truth))
    return rows
