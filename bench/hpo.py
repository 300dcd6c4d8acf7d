"""Compare strategies of tuning on simulated trainings, paired by function and repetition.

    python bench/hpo.py run --peers nei,random,tpe --workers 1,4,16 --functions 6-11 --out hpo.csv
    python bench/hpo.py table hpo.csv

Every peer sits behind the real driver and meets the same functions, first points, noise and crashed
nodes.  ``run`` adds to the file what it lacks, so it may be interrupted and started again; it takes
about 20 s of CPU time for a study of 100 jobs.  Peers beside the strategies of
``nodule_det.hpo``: ``*-zero`` counts a failed training as the value 0, ``tpe`` and ``optuna_gp``
are Optuna's (which are told 0 for it too), ``*-stop`` stops early, ``*-cost`` weighs the hours.

Regret: (best possible - truth of the best observed point) / best possible.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, Failures, StoppingConfig, Strategy
from nodule_det.hpo.baselines import Propose, proposer
from nodule_det.hpo.objectives import Objective
from nodule_det.hpo.simulation import FIRST_POINTS, Plan, simulate
from nodule_det.hpo.space import Kind, Params, Space
from nodule_det.hpo.trial import Trial

COLUMNS = ["peer", "workers", "function", "repetition", "jobs", "hours", "node_hours", "regret"]
AT_JOBS = (32, 100)


class OptunaPeer:
    """An Optuna sampler behind our signature; it keeps its own study, as its users do."""

    def __init__(self, sampler: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[int, Any] = {}
        self._told: set[int] = set()

    def __call__(
        self,
        space: Space,
        trials: Sequence[Trial],
        config: AcquisitionConfig,
        rng: np.random.Generator,
    ) -> Params:
        for trial in trials:
            if trial.number not in self._asked:
                u = {
                    p.name: float(x)
                    for p, x in zip(space.free, space.to_unit(trial.params), strict=True)
                }
                self._study.enqueue_trial({p.name: _to_optuna(p, u[p.name]) for p in space.free})
                self._asked[trial.number] = self._ask(space)
            if not trial.pending and trial.number not in self._told:
                self._told.add(trial.number)
                self._study.tell(self._asked[trial.number], trial.value or 0.0)
        asked = self._ask(space)
        self._asked[len(trials) + 1] = asked
        return space.from_unit([_from_optuna(p, asked.params[p.name]) for p in space.free])

    def _ask(self, space: Space) -> Any:
        d = self._optuna.distributions
        kinds = {}
        for p in space.free:
            if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
                kinds[p.name] = d.CategoricalDistribution(p.values)
            elif p.kind is Kind.FLOAT or p.at_most is not None:
                kinds[p.name] = d.FloatDistribution(0.0, 1.0)
            else:
                kinds[p.name] = d.IntDistribution(0, _count(p) - 1)
        return self._study.ask(kinds)


def _count(p: Any) -> int:
    return len(p.choices({}))


def _to_optuna(p: Any, u: float) -> Any:
    if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
        return p.values[min(int(u * len(p.values)), len(p.values) - 1)]
    if p.kind is Kind.FLOAT or p.at_most is not None:
        return u
    return min(int(u * _count(p)), _count(p) - 1)


def _from_optuna(p: Any, value: Any) -> float:
    if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
        return float((p.values.index(value) + 0.5) / len(p.values))
    if p.kind is Kind.FLOAT or p.at_most is not None:
        return float(value)
    return float((value + 0.5) / _count(p))


def peer(name: str, seed: int) -> tuple[Propose, AcquisitionConfig, StoppingConfig]:
    """Give proposer and settings of a peer."""
    base, *variants = name.split("-")
    if base in ("tpe", "optuna_gp"):
        import optuna

        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = (
            optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            if base == "tpe"
            else optuna.samplers.GPSampler(seed=seed)
        )
        return OptunaPeer(sampler), AcquisitionConfig(), StoppingConfig()
    strategy = Strategy(base)
    settings: dict[str, Any] = {"strategy": strategy, "first": FIRST_POINTS}
    for variant in variants:
        if variant == "zero":
            settings["failures"] = Failures.zero
        elif variant == "map":
            settings["draw_scales"] = False
        elif variant == "cost":
            settings["cost"] = True
        elif variant.startswith("first"):
            settings["first"] = int(variant[5:])
        elif variant != "stop":
            raise SystemExit(f"{name}: {variant} is no variant")
    stopping = StoppingConfig(on="stop" in variants)
    return proposer(strategy), AcquisitionConfig(**settings), stopping


def run(args: argparse.Namespace) -> None:
    done = {key for key, _ in _read(args.out).items()} if args.out.exists() else set()
    new = not args.out.exists()
    with args.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for repetition in range(args.repetitions):
            for number in _numbers(args.functions):
                objective = Objective(number)
                best = objective.optimum()
                for workers in _numbers(args.workers):
                    for name in args.peers.split(","):
                        if (name, workers, number, repetition) in done:
                            continue
                        began = time.process_time()
                        propose, acquisition, stopping = peer(name, seed=1000 * number + repetition)
                        plan = Plan(
                            workers=workers,
                            jobs=args.jobs,
                            repetition=repetition,
                            acquisition=acquisition,
                            stopping=stopping,
                        )
                        rows = simulate(objective, propose, plan)
                        for row in rows:
                            regret = (best - row.truth_of_best) / best
                            writer.writerow(
                                [name, workers, number, repetition, row.jobs]
                                + [f"{x:.5f}" for x in (row.hours, row.node_hours, regret)]
                            )
                        file.flush()
                        print(
                            f"{name} M={workers} f={number} r={repetition} "
                            f"regret {regret:.3f}, {time.process_time() - began:.0f} CPU s",
                            flush=True,
                        )


Studies = dict[tuple[str, int, int, int], list[dict[str, float]]]


def _read(path: Path) -> Studies:
    studies: Studies = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["peer"], int(row["workers"]), int(row["function"]), int(row["repetition"]))
            studies[key].append({k: float(row[k]) for k in COLUMNS[4:]})
    return studies


def table(args: argparse.Namespace) -> None:
    """Print mean regret with standard error, and the paired difference to the first peer."""
    studies: Studies = {}
    for path in args.files:
        studies.update(_read(path))
    peers = list(dict.fromkeys(key[0] for key in studies))
    reference = args.reference if args.reference in peers else peers[0]
    print(
        f"| peer | M | n | regret at {AT_JOBS[0]} | at {AT_JOBS[1]} "
        f"| less {reference} (paired, n) | node h | hours |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for workers in sorted({key[1] for key in studies}):
        for name in peers:
            mine = {k[2:]: rows for k, rows in studies.items() if k[:2] == (name, workers)}
            theirs = {k[2:]: rows for k, rows in studies.items() if k[:2] == (reference, workers)}
            if not mine:
                continue
            both = sorted(mine.keys() & theirs.keys())
            differences = [_at(mine[k], 100) - _at(theirs[k], 100) for k in both]
            node = np.mean([sum(r["node_hours"] for r in rows) for rows in mine.values()])
            hours = np.mean([rows[-1]["hours"] for rows in mine.values()])
            cells = [_mean([_at(rows, jobs) for rows in mine.values()]) for jobs in AT_JOBS]
            paired = f"{_mean(differences)} ({len(both)})" if name != reference else "-"
            print(
                f"| {name} | {workers} | {len(mine)} | {' | '.join(cells)} "
                f"| {paired} | {node:.0f} | {hours:.1f} |"
            )


def _at(rows: list[dict[str, float]], jobs: int) -> float:
    return rows[min(jobs, len(rows)) - 1]["regret"]


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{np.mean(values):.3f} ± {error:.3f}"


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--peers", default="nei,random,sobol,tpe,optuna_gp")
    runs.add_argument("--workers", default="1,4,16")
    runs.add_argument("--functions", default="6-11")
    runs.add_argument("--repetitions", type=int, default=1)
    runs.add_argument("--jobs", type=int, default=100)
    runs.add_argument("--out", type=Path, required=True)
    runs.set_defaults(do=run)
    tables = commands.add_parser("table")
    tables.add_argument("files", type=Path, nargs="+")
    tables.add_argument("--reference", default="nei")
    tables.set_defaults(do=table)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
