"""Gain and cost of ensembles and of mirrored views, on phantom scans.

    python bench/ensemble.py OUT [--seeds 3] [--scans 60] [--epochs 12] [--threads 1]

Trains one network per seed on the same phantom scans and scores, on the test set: each network,
each with its 8 mirrors, all of them together, and all of them with 8 mirrors.  Each row is compared
with the first network on the same scans (95% CI of the difference, patients resampled).  Every step
resumes, so the command can be interrupted and run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from nodule_det.analysis import compare
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import Matched, match
from nodule_det.runs import RunFolder

ROW = "{:24}{:>8}{:>18}{:>26}{:>12}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scans", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    out, threads = args.out, args.threads
    store = out / "store"
    call(threads, "data", "source=phantom", f"out={store}", f"phantom.n_scans={args.scans}",
         "phantom.nodules_per_scan=4", "phantom.folds=3", "store.test_fraction=0.5")  # fmt: skip
    runs = [RunFolder(out / f"seed{seed}") for seed in range(args.seeds)]
    for seed, run in enumerate(runs):
        call(threads, "train", f"store={store}", f"run_dir={run.path}", f"seed={seed}",
             "experiment=demo", f"limits.epochs={args.epochs}")  # fmt: skip
    scored = []
    for name, members, views in contenders(runs):
        folder = RunFolder(out / "scored" / name)
        if not folder.froc.exists():
            call(threads, "score", f"checkpoint=[{','.join(members)}]", f"views={views}",
                 f"store={store}", f"run_dir={folder.path}")  # fmt: skip
        scored.append((name, folder))
    print(table(scored))


def contenders(runs: list[RunFolder]) -> list[tuple[str, list[str], int]]:
    """List name, checkpoints and views of each row, single networks first."""
    single = [str(run.checkpoint_best) for run in runs]
    rows = [(f"network{k}", [path], 1) for k, path in enumerate(single)]
    rows += [(f"network{k}-8views", [path], 8) for k, path in enumerate(single)]
    return [*rows, ("ensemble", single, 1), ("ensemble-8views", single, 8)]


def table(scored: list[tuple[str, RunFolder]]) -> str:
    """Write pAUC, its CI, the paired difference to the first row, and seconds per scan."""
    lines = [ROW.format("", "pAUC", "95% CI", "difference (95% CI)", "s per scan")]
    first, patients = matched_of(scored[0][1])
    for name, folder in scored:
        froc, result = (json.loads(path.read_text()) for path in (folder.froc, folder.result))
        low, high = froc["pauc_interval"]
        against = ""
        if folder is not scored[0][1]:
            found = compare(first, matched_of(folder)[0], patients=patients).pauc
            against = "{:+.3f} ({:+.3f} to {:+.3f})".format(found.difference, *found.interval)
        seconds = f"{result['seconds'] / froc['n_scans']:.2f}"
        ci = f"{low:.3f} to {high:.3f}"
        lines.append(ROW.format(name, f"{froc['pauc']:.3f}", ci, against, seconds))
    return "\n".join(lines)


def matched_of(folder: RunFolder) -> tuple[Matched, dict[str, str] | None]:
    job = read_job(folder.candidates, folder.annotations, folder.scans, folder.excluded)
    return match(job.cases, job.lesions, job.candidates, job.excluded), job.patients


def call(threads: int, module: str, *words: str) -> None:
    """Run a command of the package; one that was done before does nothing."""
    print(f"$ nodule-det {module} {' '.join(words)}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", f"nodule_det.{module}", *words]
    subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
