"""Compare tuning strategies on simulated trainings, paired by function and repetition.

    python bench/hpo.py run --peers nei,random,tpe --workers 1,4,16 --functions 6-11 --out hpo.csv
    python bench/hpo.py table hpo.csv
    python bench/hpo.py workers hpo.csv --peer nei --longer hpo160.csv
    python bench/hpo.py calibration
    python bench/hpo.py latency --trials 100,500,1000

Every peer runs behind the real driver, with the same functions, first points, noise and node
crashes.  ``run`` adds missing studies to the file, so it can be interrupted and resumed; 100 jobs
of ``nei`` take about 40 s of CPU time.  The peers, in addition to the strategies of
``nodule_det.hpo``, are Optuna's ``tpe`` and ``optuna_gp``, ``plain_botorch``, ``ax`` and ``smac``.
``hpo_peers.py`` describes them and the variants of ours (``nei-zero``, ``nei-alone``, ...).  If the
peers need different environments, run each in its own and pass all files to ``table``.

Regret: (best possible - truth of the best observed point) / best possible.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hpo_peers import WITHOUT, peer
from scipy.stats import spearmanr

from nodule_det.hpo.model.encoding import Features, nearby
from nodule_det.hpo.model.gp import fit_surrogate
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.simulate.functions import Objective
from nodule_det.hpo.simulate.study import Plan, simulate
from nodule_det.hpo.study.trial import Reason, Trial, TrialState
from nodule_det.runs import RunStatus

COLUMNS = ["peer", "workers", "function", "repetition", "jobs", "hours", "node_hours", "regret"]
AT_JOBS = (32, 100)


def run(args: argparse.Namespace) -> None:
    done = {key for key, _ in _read(args.out).items()} if args.out.exists() else set()
    new = not args.out.exists()
    with args.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for repetition in range(args.repetitions):
            for number in _numbers(args.functions):
                objective, best = Objective(number), 0.0
                for m in _numbers(args.workers):
                    for name in args.peers.split(","):
                        if (name, m, number, repetition) in done:
                            continue
                        began = time.process_time()
                        propose, acquisition = peer(name, seed=1000 * number + repetition)
                        plan = Plan(
                            workers=m,
                            jobs=args.jobs,
                            repetition=repetition,
                            acquisition=acquisition,
                        )
                        rows = simulate(objective, propose, plan)
                        best = best or objective.optimum()
                        for row in rows:
                            regret = (best - row.truth_of_best) / best
                            writer.writerow(
                                [name, m, number, repetition, row.jobs]
                                + [f"{x:.5f}" for x in (row.hours, row.node_hours, regret)]
                            )
                        file.flush()
                        print(
                            f"{name} M={m} f={number} r={repetition} "
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


def _read_all(paths: Sequence[Path]) -> Studies:
    return {key: rows for path in paths for key, rows in _read(path).items()}


def table(args: argparse.Namespace) -> None:
    """Print mean regret with standard error, and the paired difference to the first peer."""
    studies = _read_all(args.files)
    peers = list(dict.fromkeys(key[0] for key in studies))
    reference = args.reference if args.reference in peers else peers[0]
    print(
        f"| peer | M | n | regret at {AT_JOBS[0]} | at {AT_JOBS[1]} "
        f"| less {reference} (paired, n) | node h | hours |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for m in sorted({key[1] for key in studies}):
        for name in peers:
            mine = {k[2:]: rows for k, rows in studies.items() if k[:2] == (name, m)}
            theirs = {k[2:]: rows for k, rows in studies.items() if k[:2] == (reference, m)}
            if not mine:
                continue
            both = sorted(mine.keys() & theirs.keys())
            differences = [_at(mine[k], 100) - _at(theirs[k], 100) for k in both]
            node = np.mean([sum(r["node_hours"] for r in rows) for rows in mine.values()])
            hours = np.mean([rows[-1]["hours"] for rows in mine.values()])
            cells = [_mean([_at(rows, jobs) for rows in mine.values()]) for jobs in AT_JOBS]
            paired = f"{_mean(differences)} ({len(both)})" if name != reference else "-"
            print(
                f"| {name} | {m} | {len(mine)} | {' | '.join(cells)} "
                f"| {paired} | {node:.0f} | {hours:.1f} |"
            )


def workers(args: argparse.Namespace) -> None:
    """Print the loss of many workers compared with one, and the time that they save."""
    studies = _read_all(args.files)
    alone = {k[2:]: rows for k, rows in studies.items() if k[:2] == (args.peer, 1)}
    longer = {k[1:]: rows for k, rows in _read_all(args.longer).items() if k[0] == args.peer}
    print("| M | n | regret of M / of 1 at 100 jobs | hours of 1 / of M | busy |")
    print("| --- | --- | --- | --- | --- |")
    for m in sorted({k[1] for k in studies if k[0] == args.peer}):
        mine = {k[2:]: rows for k, rows in studies.items() if k[:2] == (args.peer, m)}
        both = sorted(mine.keys() & alone.keys())
        if m == 1 or len(both) < 2:
            continue
        ours, one = (np.array([_at(x[k], 100) for k in both]) for x in (mine, alone))
        # The spread of a ratio of two paired means, to first order.
        ratio = ours.mean() / one.mean()
        error = np.std(ours - ratio * one, ddof=1) / one.mean() / math.sqrt(len(both))
        sooner = _sooner([alone[k] for k in both], [longer.get((m, *k), mine[k]) for k in both])
        busy = np.mean([_busy(mine[k], m) for k in both])
        print(
            f"| {m} | {len(both)} | {ours.mean():.3f} / {one.mean():.3f} = {ratio:.2f} "
            f"± {error:.2f} | {sooner} | {100 * busy:.1f} % |"
        )


def _sooner(alone: list[list[dict[str, float]]], mine: list[list[dict[str, float]]]) -> str:
    """Compare the hours at which mean regrets first are what one worker has after 100 jobs."""
    goal = float(np.mean([_at(rows, 100) for rows in alone]))
    first, then = (_hours_to(goal, studies) for studies in (alone, mine))
    assert first is not None
    if then is None:
        return f"{first:.0f} / not reached (to {goal:.3f})"
    return f"{first:.0f} / {then:.1f} = {first / then:.1f} (to {goal:.3f})"


def _hours_to(goal: float, studies: list[list[dict[str, float]]]) -> float | None:
    return _first(goal, [([r["hours"] for r in rows], rows) for rows in studies])


def _first(goal: float, studies: Sequence[tuple[Any, list[dict[str, float]]]]) -> float | None:
    """Return the first place, of places at which jobs ended, where the mean regret is the goal."""
    regrets = [np.array([1.0, *(r["regret"] for r in rows)]) for _, rows in studies]
    for place in np.unique(np.concatenate([places for places, _ in studies])):
        seen = [np.searchsorted(places, place, side="right") for places, _ in studies]
        if np.mean([r[i] for r, i in zip(regrets, seen, strict=True)]) <= goal + 1e-9:
            return float(place)
    return None


def _busy(rows: list[dict[str, float]], m: int) -> float:
    """Return the share of worker time spent on jobs, until the last one was started."""
    spans = [(r["hours"] - r["node_hours"], r["hours"]) for r in rows]
    end = max(start for start, _ in spans)
    return (
        sum(max(0.0, min(stop, end) - start) for start, stop in spans) / (m * end) if end else 1.0
    )


def calibration(args: argparse.Namespace) -> None:
    """Print how well models predict points near the best ones: order, and size of their errors."""
    models = {
        "as it is": (8, None),
        "errors taken for independent": (8, "unshared"),
        "one best guess of the hyperparameters": (1, None),
        "no column moves with others": (8, "straight"),
        "no rougher share": (8, "smooth"),
    }
    for name, (draws, part) in models.items():
        shared = part != "unshared"
        with patch(*WITHOUT[part]) if part in WITHOUT else nullcontext():
            found = np.array(
                [
                    _predicted(Objective(number, args.waves), repetition, draws, shared)
                    for number in _numbers(args.functions)
                    for repetition in range(args.repetitions)
                ]
            )
        order, error = (_mean(list(column)) for column in found.T)
        print(f"{name}: rank correlation {order}, errors {error} sd", flush=True)


def _predicted(
    objective: Objective, repetition: int, draws: int, shared: bool
) -> tuple[float, float]:
    """Fit to some 64 points that close in on the best ones; predict more of those.

    The error that all trainings share has no effect on the order, and is left out of the other
    figure: the errors of predictions less their mean.
    """
    rng = np.random.default_rng([objective.number, repetition])
    features = Features(objective.space)

    def truth(units: Any) -> Any:
        return objective.truth([objective.space.from_unit(u) for u in units])

    units = rng.random((16, objective.space.dimension))
    for _ in range(3):
        near = nearby(units[np.argsort(-truth(units))[:4]], 25, rng)
        promising = truth(near) + rng.normal(0, 0.15, len(near))
        units = np.concatenate([units, near[np.argsort(-promising)[:16]]])
    units = units[truth(units) > 0]
    results = [objective.train(objective.space.from_unit(u), rng).result for u in units]
    pulls = np.array([list((r.pauc_influence or {}).values()) for r in results])
    se = np.zeros(len(units)) if shared else np.array([r.pauc_se or 0.0 for r in results])
    data = standardise(np.array([r.pauc for r in results]), se, pulls if shared else None)
    near = nearby(units[np.argsort(-truth(units))[:4]], 100, rng)
    near = near[truth(near) > 0.5 * truth(near).max()]
    model = fit_surrogate(
        features.of_units(units),
        data,
        columns=features.columns,
        rng=rng if draws > 1 else None,
        draws=draws,
    )
    mean, spread = model.predict(features.of_units(near))
    off = truth(near) - mean
    error = np.sqrt(np.mean(((off - off.mean()) / spread) ** 2))
    return float(spearmanr(mean, truth(near))[0]), float(error)


def latency(args: argparse.Namespace) -> None:
    """Print CPU seconds of a suggestion with 16 trials running, and the memory of the process."""
    objective = Objective(0)
    for name in args.peers.split(","):
        propose, config = peer(name, seed=0)
        for n in _numbers(args.trials):
            trials = _simulated(objective, n, running=16)
            seconds = []
            for i in range(4):
                began = time.process_time()
                propose(objective.space, trials, config, np.random.default_rng(i))
                seconds.append(time.process_time() - began)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{name} {n} trials: median {np.median(seconds[1:]):.2f} CPU s "
                f"(first {seconds[0]:.2f}), peak memory of the process {peak:.0f} MiB",
                flush=True,
            )


def _simulated(objective: Objective, n: int, running: int) -> list[Trial]:
    """Return n trials at random points that have ended, failures included, and some that run."""
    rng = np.random.default_rng(0)
    trials = []
    for number in range(1, n + 1):
        params = objective.space.sample(rng)
        result = objective.train(params, rng).result
        ended: dict[str, Any] = (
            {"state": TrialState.COMPLETE, "value": result.pauc, "value_se": result.pauc_se}
            if result.status is RunStatus.COMPLETE
            else {"state": TrialState.FAILED, "reason": Reason(result.reason)}
        )
        trials.append(Trial(number=number, params=params, **ended))
    return trials + [
        Trial(number=n + i + 1, params=objective.space.sample(rng)) for i in range(running)
    ]


def _at(rows: list[dict[str, float]], jobs: int) -> float:
    return rows[min(jobs, len(rows)) - 1]["regret"]


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / math.sqrt(len(values)):.3f}"


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
    many = commands.add_parser("workers")
    many.add_argument("files", type=Path, nargs="+")
    many.add_argument("--peer", default="nei")
    many.add_argument(
        "--longer",
        type=Path,
        nargs="*",
        default=[],
        help="files of `run --jobs 160` or similar, to reach the final value of one worker",
    )
    many.set_defaults(do=workers)
    calibrations = commands.add_parser("calibration")
    calibrations.add_argument("--functions", default="0-5")
    calibrations.add_argument("--repetitions", type=int, default=3)
    calibrations.add_argument("--waves", type=float, default=1.0, help="factor of the waves")
    calibrations.set_defaults(do=calibration)
    latencies = commands.add_parser("latency")
    latencies.add_argument("--peers", default="nei")
    latencies.add_argument("--trials", default="100,500,1000")
    latencies.set_defaults(do=latency)
    tables = commands.add_parser("table")
    tables.add_argument("files", type=Path, nargs="+")
    tables.add_argument("--reference", default="nei")
    tables.set_defaults(do=table)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
