"""Many simulated studies: strategies x workers x repetitions, in one process or several.

    strategies x workers x repetitions ──simulate_all()──▶ runs.csv ──plots──▶ figures, their data

Studies that are already in ``runs.csv`` are not simulated again.  So the same command resumes after
Ctrl-C, and a command with more strategies, workers or repetitions adds to it.
"""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodule_det import __version__
from nodule_det.cli import calculate_in_one_thread
from nodule_det.config.fields import as_plain
from nodule_det.config.hpo import Strategy
from nodule_det.config.hpo_tools import SimulateConfig
from nodule_det.errors import ConfigError
from nodule_det.files import replacing, write_json
from nodule_det.progress import counted

if TYPE_CHECKING:
    from nodule_det.hpo.simulate.study import Run

SAVE_EVERY_S = 10.0
"""Seconds between writes of ``runs.csv``, which is also written on Ctrl-C."""
FIGURES = {"jobs": "fig7_best_against_jobs", "rounds": "fig8_best_against_jobs_per_worker"}

Key = tuple[str, int, int]
"""Strategy, workers, repetition."""


def check_settings(config: SimulateConfig, path: Path) -> None:
    """Record the settings that all studies of the folder share.

    Raises:
        ConfigError: If existing studies were simulated with other settings.
    """
    mine = as_plain(config)
    for name in ("out", "strategies", "workers", "repetitions", "processes"):
        del mine[name]
    del mine["acquisition"]["strategy"]
    mine["version"] = __version__
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        for name, value in mine.items():
            if there.get(name) != value:
                raise ConfigError(
                    f"out={path.parent} has studies with {name}={there.get(name)} but "
                    f"{name}={value} was requested; use another folder"
                )
    write_json(path, mine)


def simulate_all(config: SimulateConfig, path: Path) -> list[Run]:
    """Run every strategy with every number of workers on the same functions.

    Args:
        config: The requested studies.
        path: CSV of finished studies, which are not run again.

    Returns:
        The requested runs, ordered by repetition, strategy and workers.
    """
    from nodule_det.progress import Progress

    runs = {(run.strategy, run.workers, run.repetition): run for run in read_runs(path)}
    wanted = [
        (strategy.value, workers, repetition)
        for repetition in range(config.repetitions)
        for strategy in config.strategies
        for workers in config.workers
    ]
    missing = [key for key in dict.fromkeys(wanted) if key not in runs]
    saved_s = time.monotonic()
    try:
        with Progress("simulated studies", len(wanted)) as progress:
            progress.start_at(len(wanted) - len(missing))
            with closing(_simulate(config, missing)) as studies:
                for run in studies:
                    runs[run.strategy, run.workers, run.repetition] = run
                    progress.advance(f"{run.strategy}, {counted(run.workers, 'worker')}")
                    if time.monotonic() - saved_s > SAVE_EVERY_S:
                        write_runs(runs.values(), path)
                        saved_s = time.monotonic()
    finally:
        write_runs(runs.values(), path)
    return [runs[key] for key in dict.fromkeys(wanted)]


def _simulate(config: SimulateConfig, keys: list[Key]) -> Generator[Run, None, None]:
    """Yield studies as they finish, from one process or several."""
    tasks = [(config, key) for key in keys]
    if config.processes == 1 or len(keys) < 2:
        yield from map(simulate_one, tasks)
        return
    import multiprocessing

    # Not forked: that would copy threads that numerical libraries may have started.
    processes = min(config.processes, len(keys))
    with multiprocessing.get_context("spawn").Pool(processes, _begin_process) as pool:
        yield from pool.imap_unordered(simulate_one, tasks)


def _begin_process() -> None:
    """Use one thread, and ignore Ctrl-C, which the parent process handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calculate_in_one_thread()


def simulate_one(task: tuple[SimulateConfig, Key]) -> Run:
    """Run one study."""
    from nodule_det.hpo.simulate.functions import Objective
    from nodule_det.hpo.simulate.study import Plan, Run, simulate
    from nodule_det.hpo.strategy.strategy import propose

    config, (name, workers, repetition) = task
    strategy = Strategy(name)
    objective = Objective(config.function + repetition)
    plan = Plan(
        workers=workers,
        jobs=config.jobs,
        repetition=repetition,
        acquisition=replace(config.acquisition, strategy=strategy),
    )
    rows = simulate(objective, propose, plan)
    return Run(name, workers, objective.number, repetition, rows)


def draw_all(runs: list[Run], folder: Path) -> None:
    """Draw Figs. 7 and 8 and the same curves over hours, and write their data."""
    from nodule_det.hpo.simulate import plots
    from nodule_det.plots.style import save_png

    for axis in plots.AXES:
        name = FIGURES.get(axis, f"best_against_{axis}")
        save_png(plots.draw_by_strategy(runs, axis), folder / f"{name}.png")
        if axis != "rounds":
            save_png(plots.draw_by_workers(runs, axis), folder / f"strategies_against_{axis}.png")
    _write_csv(folder / "curves.csv", plots.curve_rows(runs))
    _write_csv(folder / "summary.csv", plots.summary_rows(runs))


def write_runs(runs: Iterable[Run], path: Path) -> None:
    """Write one row for each trial of each study, in the order of their ends."""
    from dataclasses import astuple, fields

    from nodule_det.hpo.simulate.study import Finished

    names = [f.name for f in fields(Finished)]
    rows: list[list[Any]] = [["strategy", "workers", "function", "repetition", *names]]
    rows += [
        [*key, *("" if x is None else x for x in astuple(row))]
        for run in runs
        for key in [[run.strategy, run.workers, run.function, run.repetition]]
        for row in run.rows
    ]
    _write_csv(path, rows)


def read_runs(path: Path) -> list[Run]:
    """Read the studies written by ``write_runs``; an empty list if the file does not exist."""
    from nodule_det.hpo.simulate.study import Finished, Run
    from nodule_det.hpo.study.trial import TrialState

    if not path.exists():
        return []
    runs: dict[tuple[str, int, int, int], Run] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for cell in csv.DictReader(file):
            numbers = (int(cell["workers"]), int(cell["function"]), int(cell["repetition"]))
            run = runs.setdefault((cell["strategy"], *numbers), Run(cell["strategy"], *numbers, []))
            run.rows.append(
                Finished(
                    jobs=int(cell["jobs"]),
                    hours=float(cell["hours"]),
                    node_hours=float(cell["node_hours"]),
                    state=TrialState(cell["state"]),
                    value=float(cell["value"]) if cell["value"] else None,
                    best=float(cell["best"]),
                    truth_of_best=float(cell["truth_of_best"]),
                )
            )
    return list(runs.values())


def _write_csv(path: Path, rows: Iterable[list[Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
