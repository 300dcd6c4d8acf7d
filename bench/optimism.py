"""How optimistic a tuning study is: its best value, and finish's estimate, against a test set.

    python bench/optimism.py OUT [--studies 10] [--trials 8] [--workers 2]

Each study has small phantom scans of its own: 24 in three folds and 30 in the test set.  It tunes
four settings in short trainings, and is finished.  The table has one line per study and the means
with standard errors:

    best - test      largest value of the study, minus the test pAUC of that trial's network
    finish - test    cross-validated pAUC of the chosen setting, minus the test pAUC of the model

Every step resumes, so the command can be interrupted and run again; finished studies are only read.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from nodule_det.hpo.study.study import read_study
from nodule_det.runs import RunFolder

TRAIN = (
    "train.patches.size_vox=24", "train.patches.per_epoch=80", "train.limits.epochs=4",
    "train.validation.every_epochs=1", "train.model.depth=3", "train.candidates.max_per_scan=30",
    "train.device=cpu",
)  # fmt: skip
COLUMNS = ("best", "its test", "best - test", "finish", "its test", "finish - test")
ROW = "{:8}" + "{:>15}" * len(COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--studies", type=int, default=10)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    figures = []
    for number in range(args.studies):
        folder = args.out / f"study{number}"
        if not (folder / "figures.json").exists():
            one_study(folder, number, args.trials, args.workers)
        figures.append(json.loads((folder / "figures.json").read_text()))
        print(table(figures), flush=True)


def one_study(folder: Path, number: int, trials: int, workers: int) -> None:
    """Tune, finish and test one study."""
    store, study = folder / "store", folder / "study"
    call("data", "source=phantom", f"out={store}", "phantom.n_scans=54", "phantom.folds=3",
         "phantom.nodules_per_scan=2", "phantom.size_vox=[40,96,96]",
         f"phantom.seed={1000 * (number + 1)}", "store.test_fraction=0.55")  # fmt: skip
    call("hpo", f"study={study}", "search_space=small", f"workers={workers}", f"trials={trials}",
         f"acquisition.seed={number}", f"train.store={store}", "dispatcher.poll_s=1",
         *TRAIN)  # fmt: skip
    call("hpo.finish", f"study={study}", "settings=1", f"workers={workers}", "dispatcher.poll_s=1")
    best = read_study(study).best()
    if best is None:
        raise SystemExit(f"{study} has no complete trial")
    tested = RunFolder(folder / "best")
    if not tested.froc.exists():
        checkpoint = RunFolder(study / "trials" / f"{best.number:04d}").checkpoint_best
        call("score", f"checkpoint={checkpoint}", f"store={store}", f"run_dir={tested.path}")
    record = json.loads((study / "finish" / "finish.json").read_text())
    chosen = next(row for row in record["settings"] if row["chosen"])
    found = {
        "best": best.value,
        "best_test": json.loads(tested.froc.read_text())["pauc"],
        "finish": chosen["pauc"],
        "finish_test": record["test"]["pauc"],
    }
    (folder / "figures.json").write_text(json.dumps(found) + "\n")


def table(figures: list[dict[str, float]]) -> str:
    """Write the figures of each study, and the mean differences with standard errors."""
    read = np.array([[f[name] for name in ("best", "best_test", "finish", "finish_test")]
                     for f in figures])  # fmt: skip
    rows = np.insert(read, [2, 4], read[:, ::2] - read[:, 1::2], axis=1)
    lines = [ROW.format("study", *COLUMNS)]
    lines += [ROW.format(k, *(f"{value:.3f}" for value in row)) for k, row in enumerate(rows)]
    if len(rows) > 1:
        errors = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        means = zip(rows.mean(axis=0), errors, strict=True)
        lines.append(ROW.format("mean", *(f"{mean:.3f}±{se:.3f}" for mean, se in means)))
    return "\n".join(lines)


def call(module: str, *words: str) -> None:
    """Run a command of the package; what was done before is not done again."""
    print(f"$ nodule-det {module} {' '.join(words)}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", f"nodule_det.{module}", *words], check=True, env=environment
    )


if __name__ == "__main__":
    main()
