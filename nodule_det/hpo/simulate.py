"""``python -m nodule_det.hpo.simulate``: the poster's experiment on simulated trainings.

strategies x workers x repetitions ──simulate()──▶ runs.csv, best against jobs and against hours
"""

from __future__ import annotations

import csv
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command
from nodule_det.config.hpo import SimulateConfig
from nodule_det.runs import replacing

if TYPE_CHECKING:
    from nodule_det.hpo.simulation import Run


@command("hpo.simulate", SimulateConfig)
def main(config: SimulateConfig) -> None:
    """Run simulated studies in virtual time, and draw the poster's Figs. 7 and 8 of them."""
    from nodule_det.hpo.curves import save_curves

    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    runs = simulate_all(config)
    write_runs(runs, folder / "runs.csv")
    save_curves(runs, "jobs", folder / "best_against_jobs.png")
    save_curves(runs, "hours", folder / "best_against_hours.png")
    print(f"{folder}: runs.csv, best_against_jobs.png, best_against_hours.png")


def simulate_all(config: SimulateConfig) -> list[Run]:
    """Run every strategy with every number of workers, on the same functions."""
    from nodule_det.hpo.baselines import proposer
    from nodule_det.hpo.objectives import Objective
    from nodule_det.hpo.simulation import Plan, Run, simulate
    from nodule_det.progress import Progress

    runs: list[Run] = []
    total = len(config.strategies) * len(config.workers) * config.repetitions
    with Progress("simulated studies", total) as progress:
        for repetition in range(config.repetitions):
            objective = Objective(config.function + repetition)
            for strategy in config.strategies:
                acquisition = replace(config.acquisition, strategy=strategy)
                for workers in config.workers:
                    plan = Plan(
                        workers=workers,
                        jobs=config.jobs,
                        repetition=repetition,
                        acquisition=acquisition,
                        stopping=config.stopping,
                    )
                    rows = simulate(objective, proposer(strategy), plan)
                    runs.append(Run(strategy.value, workers, objective.number, repetition, rows))
                    progress.advance(f"{strategy.value}, {workers} workers")
    return runs


def write_runs(runs: list[Run], path: Path) -> None:
    """Write one row for each trial of each study, in the order of the ends."""
    from nodule_det.hpo.simulation import Finished

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [f.name for f in fields(Finished)]
        writer.writerow(["strategy", "workers", "function", "repetition", *names])
        for run in runs:
            for row in run.rows:
                key = [run.strategy, run.workers, run.function, run.repetition]
                writer.writerow(key + ["" if x is None else x for x in astuple(row)])


if __name__ == "__main__":
    main()
