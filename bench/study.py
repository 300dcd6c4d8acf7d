"""A real study: tuning short trainings on phantom scans, compared with random search.

    python bench/study.py FOLDER [--trials 40] [--workers 2] [--strategies nei random]

    phantom scans ──data──▶ store ──hpo, for each strategy──▶ studies ──▶ curves.csv, curves.png

Running the same command again resumes it: the store is made once, and studies are resumed.  Each
training uses one core.  The space is ``bench/study.space.yaml``.  The last lines show the best
setting of each strategy.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from nodule_det.files import replacing
from nodule_det.hpo.study.study import Study, read_study
from nodule_det.hpo.study.trial import TrialState

SPACE = Path(__file__).with_name("study.space.yaml")
TRAINING = (
    "patches.size_vox=32",
    "patches.per_epoch=192",
    "augment.copies=0",
    "augment.shift_vox=0",
    "validation.every_epochs=6",
    "validation.max_scans=12",
    "limits.epochs=6",
)
"""Short enough to run many, long enough to distinguish good settings from bad ones."""
SCANS = ("phantom.n_scans=36", "phantom.nodules_per_scan=2", "phantom.folds=3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--strategies", nargs="+", default=["nei", "random"])
    args = parser.parse_args()
    store = args.folder.absolute() / "store"
    call("nodule_det.data", "source=phantom", f"out={store}", *SCANS)
    for strategy in args.strategies:
        call(
            "nodule_det.hpo",
            f"study={args.folder / strategy}",
            f"search_space={SPACE}",
            f"workers={args.workers}",
            f"trials={args.trials}",
            f"acquisition.strategy={strategy}",
            *(f"train.{word}" for word in TRAINING),
            f"train.store={store}",
            "train.device=cpu",
        )
    studies = {name: read_study(args.folder / name) for name in args.strategies}
    write_csv(args.folder / "curves.csv", studies)
    draw(args.folder / "curves.png", studies)
    for name, study in studies.items():
        print(in_words(name, study))


def call(module: str, *words: str) -> None:
    """Run a command of the package; one thread for each training and for the driver."""
    print(f"$ python -m {module} {' '.join(words)}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", module, *words], check=True, env=environment)


def ended(study: Study) -> list[tuple[float, float]]:
    """List (hours since the first trial was asked for, best value so far), one for each trial."""
    over = sorted((t for t in study.own if t.finished_s is not None), key=lambda t: t.finished_s)
    start = min(t.asked_s for t in study.own)
    values = [t.value if t.value is not None else -np.inf for t in over]
    best = np.maximum.accumulate(values)
    return [((t.finished_s - start) / 3600, float(b)) for t, b in zip(over, best, strict=True)]


def write_csv(path: Path, studies: dict[str, Study]) -> None:
    with replacing(path) as temporary, open(temporary, "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["strategy", "jobs", "hours", "best_pauc"])
        for name, study in studies.items():
            for jobs, (hours, best) in enumerate(ended(study), 1):
                writer.writerow([name, jobs, f"{hours:.4f}", f"{best:.4f}"])


def draw(path: Path, studies: dict[str, Study]) -> None:
    """Draw the best value against jobs and against time, one line for each strategy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (jobs, hours) = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for name, study in studies.items():
        curve = ended(study)
        best = [b for _, b in curve]
        jobs.step(range(1, len(best) + 1), best, where="post", label=name)
        hours.step([h for h, _ in curve], best, where="post", label=name)
    jobs.set(xlabel="trainings", ylabel="best pAUC so far")
    hours.set(xlabel="hours")
    jobs.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)


def in_words(name: str, study: Study) -> str:
    """Say what a study came to."""
    complete = [t for t in study.own if t.state is TrialState.COMPLETE]
    best = study.best()
    if best is None:
        return f"{name}: no training was completed"
    values = np.array([t.value for t in complete])
    seconds = np.median([t.seconds for t in complete])
    setting = " ".join(
        f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in best.params.items()
    )
    return (
        f"{name}: best pAUC {best.value:.3f} (standard error {best.value_se or 0:.3f}) in trial "
        f"{best.number} of {len(complete)}, median {np.median(values):.3f}, worst "
        f"{values.min():.3f}; {seconds:.0f} s a training; {setting}"
    )


if __name__ == "__main__":
    main()
