"""Check the predicted error of the difference between two trainings on real ones.

    python bench/noise.py RUN RUN... [--group 20]

The run folders must have validated the same scans, a few hundred of them.  These are split into
groups as large as a small validation set.  For each pair of runs, the difference of their pAUCs in
a group is compared with the difference on all other scans:

    z = (difference in the group - difference on the others) / predicted error of that

If the prediction (``analysis/influence.py``) is right, the mean square of z is 1.  It is printed
for the prediction, for errors taken for independent, and for the pAUC of single runs, each with its
standard error over the groups.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from nodule_det.analysis.influence import derivative
from nodule_det.analysis.merging import keep_cases
from nodule_det.arrays import FloatArray, IntArray
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import Matched, froc_curve, match, pauc
from nodule_det.runs import RunFolder

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--group", type=int, default=20, help="scans in a group")
    args = parser.parse_args()
    runs = [matched_of(RunFolder(path)) for path in args.runs]
    n = runs[0].n_cases
    if len(runs) < 2 or any(run.cases.tolist() != runs[0].cases.tolist() for run in runs):
        sys.exit("use at least two run folders that have validated the same scans")
    order = np.random.default_rng(SEED).permutation(n)
    groups = [order[i : i + args.group] for i in range(0, n - args.group + 1, args.group)]
    print(f"{len(runs)} runs, {n} scans, {len(groups)} groups of {args.group}")
    print("pAUC", *(f"{pauc(froc_curve(run)):.3f}" for run in runs))
    squares = np.array([squared_z(runs, group) for group in groups])
    names = ("difference, as predicted", "difference, independent", "single pAUC")
    for name, of_group in zip(names, squares.T, strict=True):
        print(f"{name:26} mean z^2 {of_group.mean():.2f} +- {standard_error(of_group):.2f}")


def matched_of(folder: RunFolder) -> Matched:
    job = read_job(folder.candidates, folder.annotations, folder.scans, folder.excluded)
    found = match(job.cases, job.lesions, job.candidates, job.excluded)
    return keep_cases(found, np.argsort(found.cases))


def squared_z(runs: Sequence[Matched], group: IntArray) -> tuple[float, float, float]:
    """Return the mean squares of z over the pairs (two predictions), and over the runs."""
    others = np.setdiff1d(np.arange(runs[0].n_cases), group)
    inside, outside = ([keep_cases(run, side) for run in runs] for side in (group, others))
    values = [[pauc(froc_curve(part)) for part in side] for side in (inside, outside)]
    pulls = [[scaled(part) for part in side] for side in (inside, outside)]
    shared, independent = [], []
    for i, j in combinations(range(len(runs)), 2):
        off = (values[0][i] - values[0][j]) - (values[1][i] - values[1][j])
        shared.append(off**2 / sum(float(np.sum((p[i] - p[j]) ** 2)) for p in pulls))
        independent.append(off**2 / sum(float(p[i] @ p[i] + p[j] @ p[j]) for p in pulls))
    single = [
        (values[0][i] - values[1][i]) ** 2 / sum(float(p[i] @ p[i]) for p in pulls)
        for i in range(len(runs))
    ]
    return float(np.mean(shared)), float(np.mean(independent)), float(np.mean(single))


def scaled(part: Matched) -> FloatArray:
    """Return the influence of each scan, (n_cases,)."""
    n = part.n_cases
    return np.asarray(derivative(part) * np.sqrt(n / (n - 1)))


def standard_error(values: FloatArray) -> float:
    """Return the standard error of a mean over groups."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    main()
