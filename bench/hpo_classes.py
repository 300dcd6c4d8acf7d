"""Compare tuning methods on several classes of problems, paired by problem.

    python bench/hpo_classes.py run OUT [--classes classic,...] [--peers random,tpe,nei,optuna_gp]
        [--numbers 0-11] [--yahpo FOLDER]
    python bench/hpo_classes.py table OUT

``run`` simulates each problem of ``hpo_problems.py`` with each peer behind the real driver: 100
jobs, 16 workers, and the same first points, noise and node crashes for all peers.  Each finished
study is a line of ``OUT/studies.jsonl``, so that the command can be killed and continued.  It goes
through all classes with the first peer, which should be a cheap one, then with the second, and so
on.  ``table`` prints, for each class and after 60 and 100 jobs, the mean regret of our method and
the differences: regret of the peer minus ours, so positive means that ours is better.

Regret: (best - truth of the best observed point) / (best - floor); see ``hpo_problems.py``.  One
study takes about 1 (random), 3 (tpe), 20 to 60 (nei) and 10 to 60 (optuna_gp) s of CPU time.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
from hpo_peers import peer

from bench.hpo_problems import NUMBERS, Problem, best_and_floor, problem
from bench.hpo_yahpo import YAHPO
from bench.trainings.surrogate import TABLE

JOBS = 100
AT_JOBS = (60, 100)
Study = dict[str, Any]
"""A line of studies.jsonl."""


def run(args: argparse.Namespace) -> None:
    """Simulate the studies that are missing."""
    from nodule_det.hpo.simulate.study import Plan, simulate

    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "studies.jsonl"
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True,
        text=True, check=False,
    ).stdout.strip()  # fmt: skip
    scales: dict[tuple[str, int], tuple[Problem, float, float]] = {}
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{path} is in use by another process") from None
        if (there := path.read_bytes()) and not there.endswith(b"\n"):
            file.write("\n")  # after a line whose writing was cut short
        done = {key(study) for study in read(path)}
        for wanted in planned(
            args.classes.split(","), args.peers.split(","), args.workers, args.numbers
        ):
            if key(wanted) in done:
                continue
            name, number, workers = wanted["class"], wanted["number"], wanted["workers"]
            if (name, number) not in scales:
                made = problem(name, number, args.table, args.yahpo)
                scales[name, number] = (made, *best_and_floor(name, made))
            made, best, floor = scales[name, number]
            began = time.process_time()
            propose, acquisition = peer(wanted["peer"], seed=1000 * number)
            plan = Plan(workers=workers, jobs=JOBS, acquisition=acquisition)
            rows = simulate(made, propose, plan)  # type: ignore[arg-type]
            study = wanted | {
                "regret": [round((best - row.truth_of_best) / (best - floor), 5) for row in rows],
                "node_hours": round(sum(row.node_hours for row in rows), 2),
                "failed": sum(row.value is None for row in rows),
                "commit": commit,
                "cpu_s": round(time.process_time() - began, 1),
            }
            file.write(json.dumps(study, separators=(",", ":")) + "\n")
            file.flush()
            print(
                f"{wanted['peer']} on {name} {number}: regret {study['regret'][-1]:.3f}, "
                f"{study['cpu_s']:.0f} CPU s",
                flush=True,
            )


def planned(
    classes: Sequence[str], peers: Sequence[str], workers: int, numbers: range | None = None
) -> list[Study]:
    """List the studies to run: the first peer on all problems, then the second, and so on."""
    return [
        {"class": name, "number": number, "peer": peer, "workers": workers}
        for peer in peers
        for name in classes
        for number in numbers or NUMBERS[name]
    ]


def number_range(text: str) -> range:
    """Parse numbers such as ``7`` or ``12-23``."""
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 12-23") from None


def key(study: Study) -> tuple[str, int, str, int]:
    """Return what identifies a study."""
    return study["class"], study["number"], study["peer"], study["workers"]


def read(path: Path) -> list[Study]:
    """Read finished studies; a line whose writing was cut short is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(studies: Sequence[Study], ours: str = "nei") -> str:
    """Format the comparison as a Markdown table, one line per class, workers and number of jobs."""
    by_key = {key(s): s["regret"] for s in studies}
    peers = [p for p in dict.fromkeys(s["peer"] for s in studies) if p != ours]
    lines = [
        f"| class | M | jobs | regret of {ours} (n) | " + " | ".join(peers) + " |",
        "| --- " * (4 + len(peers)) + "|",
    ]
    for name, workers in dict.fromkeys((s["class"], s["workers"]) for s in studies):
        for jobs in AT_JOBS:

            def at(peer: str) -> dict[int, float]:
                return {
                    number: regret[min(jobs, len(regret)) - 1]  # noqa: B023
                    for (c, number, p, m), regret in by_key.items()
                    if (c, p, m) == (name, peer, workers)  # noqa: B023
                }

            mine = at(ours)
            cells = [mean(list(mine.values()))]
            for other in peers:
                theirs = at(other)
                cells.append(mean([theirs[n] - mine[n] for n in theirs if n in mine], sign="+"))
            lines.append(f"| {name} | {workers} | {jobs} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean(values: Sequence[float], sign: str = "") -> str:
    """Format a mean with its standard error and n."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:{sign}.3f} (1)"
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):{sign}.3f} ± {error:.3f} ({len(values)})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", default=",".join(NUMBERS))
    parser.add_argument("--numbers", type=number_range, help="problems of each class: 12-23")
    parser.add_argument("--peers", default="random,tpe,nei,optuna_gp")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--table", type=Path, default=TABLE, help="table of real trainings")
    parser.add_argument("--yahpo", type=Path, default=YAHPO, help="folder of YAHPO Gym's data")
    args = parser.parse_args()
    if args.command == "run":
        run(args)
    else:
        print(table(read(args.out / "studies.jsonl")))


if __name__ == "__main__":
    main()
