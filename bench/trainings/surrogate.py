"""The table of real trainings as a function to tune: any setting has a predicted course.

    python bench/trainings/surrogate.py TABLE

    table.jsonl ──Table──▶ forests ──Trainings(number)──▶ truth(points), train(params, rng)

The command prints how well the forests predict trainings that they were not fitted to.

A prediction is an average of the rows that share leaves with the setting in 200 random trees
(scikit-learn's ExtraTrees): of their values, validations and influences of each scan, all with the
same weights.  Trees are piecewise constant, which favours no Gaussian process.  Another forest
predicts CPU time and memory, a third one failures.  The ``number`` of a problem draws how easy each
validation scan is, so each number is a similar validation set with other best settings; 0 is the
set of the table.  Two trainings of a setting differ by as much as the repeats of the table do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from nodule_det.analysis.influence import derivative
from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.errors import ExitCode
from nodule_det.froc import MISSED, Matched
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import Observation
from nodule_det.runs import RunResult, RunStatus

HERE = Path(__file__).parent
TABLE = HERE / "table.jsonl"
TREES = 200
LEAF = 2
"""Fewest rows of a leaf."""
MEMORY_SHARE = 0.93
"""Share of the trainings that fit into a job's memory."""
HOUR_S = 15.0
"""CPU seconds of the table that pass for an hour in a simulated study."""
NONE = np.empty(0, np.int64)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the trainings of a table, in the order of their numbers."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [row for row in map(json.loads, lines) if "number" in row]
    return sorted(rows, key=lambda row: int(row["number"]))


def matched(scans: Sequence[Sequence[Any]]) -> Matched:
    """Return the outcome of each candidate and lesion of a row's ``scans``."""
    lesion_case = np.repeat(np.arange(len(scans)), [n for n, _, _ in scans])
    scores = [np.array([*hits, *[MISSED] * (n - len(hits))]) for n, hits, _ in scans]
    lesion_score = np.concatenate(scores)
    return Matched(
        cases=np.array([str(i) for i in range(len(scans))]),
        lesion_case=lesion_case,
        lesion_row=np.where(lesion_score >= 0, 0, MISSED),
        lesion_score=lesion_score,
        fp_case=np.repeat(np.arange(len(scans)), [len(fps) for _, _, fps in scans]),
        fp_score=np.array([score for _, _, fps in scans for score in fps], float),
        fp_row=NONE,
        excluded_row=NONE,
        repeated_row=NONE,
    )


def influence(scans: Sequence[Sequence[Any]]) -> FloatArray:
    """Return how much each scan pulls the pAUC, (n_scans,); the sum of squares is its variance."""
    n = len(scans)
    return derivative(matched(scans)) * np.sqrt(n / (n - 1))


class Table:
    """The trainings of a table, as arrays, and the forests that predict others.

    Args:
        rows: Trainings, of which at least some are complete.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.space = read_space(str(HERE / "space.yaml"))
        self._features = Features(self.space)
        complete = [r for r in rows if r["value"] is not None]
        self.numbers = np.array([r["number"] for r in complete])
        self.kinds = np.array([r["kind"] for r in complete])
        self.x = self._features.matrix([r["params"] for r in complete])
        self.value = np.array([r["value"] for r in complete])
        self.influence = np.array([influence(r["scans"]) for r in complete])
        self.curve = np.array([[value for _, value, _ in r["curve"]] for r in complete])
        self.epochs = [int(epoch) for epoch, _, _ in complete[0]["curve"]]
        self.cpu_s = np.array([r["cpu_s"] for r in complete])
        self.peak_mib = np.array([r["peak_mib"] for r in complete])
        self.all_x = self._features.matrix([r["params"] for r in rows])
        self.failed = np.array([r["value"] is None for r in rows])

    def matrix(self, points: Sequence[Params]) -> FloatArray:
        """Return (n, d) inputs of the forests."""
        return self._features.matrix(points)

    @cached_property
    def _forest(self) -> Any:
        return _trees(self.x, self.value)

    @cached_property
    def _leaves(self) -> FloatArray:
        return np.asarray(self._forest.apply(self.x))

    @cached_property
    def _cost(self) -> Any:
        outputs = np.column_stack([np.log(self.cpu_s), self.peak_mib])
        self._cost_scale = outputs.mean(0), outputs.std(0) + 1e-9
        return _trees(self.x, (outputs - self._cost_scale[0]) / self._cost_scale[1])

    @cached_property
    def _failure(self) -> Any:
        return _trees(self.all_x, self.failed.astype(float)) if self.failed.any() else None

    def weights(self, x: FloatArray) -> FloatArray:
        """Return the weight of each complete row in the predictions, (n, n_rows)."""
        total = np.zeros((len(x), len(self.x)))
        for mine, theirs in zip(self._forest.apply(x).T, self._leaves.T, strict=True):
            same = mine[:, None] == theirs
            total += same / same.sum(1, keepdims=True)
        return total / self._leaves.shape[1]

    def average(self, x: FloatArray, target: FloatArray) -> FloatArray:
        """Return ``weights(x) @ target``, (n,), at once for many points."""
        total = np.zeros(len(x))
        for mine, theirs in zip(self._forest.apply(x).T, self._leaves.T, strict=True):
            sums, counts = np.bincount(theirs, target), np.bincount(theirs)
            total += sums[mine] / counts[mine]
        return total / self._leaves.shape[1]

    def cost(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return CPU seconds and peak MiB, (n,) each."""
        found = self._cost.predict(x) * self._cost_scale[1] + self._cost_scale[0]
        return np.exp(found[:, 0]), found[:, 1]

    def fails(self, x: FloatArray) -> BoolArray:
        """Return whether trainings fail, (n,)."""
        if self._failure is None:
            return np.zeros(len(x), bool)
        return np.asarray(self._failure.predict(x) > 0.5)

    @cached_property
    def seed_sd(self) -> float:
        """Standard deviation of values over seeds, from the repeats' median difference.

        The median, since some settings with a high learning rate work with one seed and give 0 with
        another: such jumps are not the noise of the others.
        """
        gaps = []
        for number, value in zip(self.numbers, self.value, strict=True):
            original = self.numbers == number - 7
            if self.kinds[self.numbers == number][0] == "repeat" and original.any():
                gaps.append(value - self.value[original][0])
        return float(np.median(np.abs(gaps)) / 0.6745 / np.sqrt(2)) if gaps else 0.0


def _trees(x: FloatArray, y: FloatArray) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, random_state=0).fit(x, y)


class Trainings:
    """A tuning problem like the table's; see the top of this file.

    Args:
        number: Seed of the validation set.
        table: The trainings.
    """

    def __init__(self, number: int, table: Table) -> None:
        self.number, self.space, self._table = number, table.space, table
        n_scans = table.influence.shape[1]
        self._ease = np.random.default_rng(number).normal(size=n_scans) * (number > 0)
        self._memory_mib = np.quantile(table.peak_mib, MEMORY_SHARE)

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the values without the luck of their seeds, (n,); 0 where the training fails."""
        x = self._table.matrix(points)
        target = self._table.value + self._table.influence @ self._ease
        value = self._table.average(x, target)
        works = ~(self._table.fails(x) | (self._table.cost(x)[1] > self._memory_mib))
        return np.where(works, np.clip(value, 0, 1), 0.0)

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training; the luck of its seed and its duration are drawn from ``rng``."""
        x = self._table.matrix([params])
        cpu_s, peak_mib = (float(a[0]) for a in self._table.cost(x))
        seconds = 3600 * cpu_s / HOUR_S * float(np.exp(rng.normal(0, 0.1)))
        luck = float(rng.normal())
        if peak_mib > self._memory_mib:
            return FakeRun.failed(ExitCode.OUT_OF_MEMORY, 0.05 * seconds)
        if self._table.fails(x)[0]:
            return FakeRun.failed(ExitCode.DIVERGED, 0.3 * seconds)
        weights = self._table.weights(x)[0]
        truth = float(self.truth([params])[0])
        sd = self._table.seed_sd * min(1.0, truth / 0.2)
        value = float(np.clip(truth + luck * sd, 0, 1))
        pulls = weights @ self._table.influence
        se = float(np.linalg.norm(pulls))
        curve = weights @ self._table.curve
        curve *= value / max(curve.max(), 1e-9)
        seen = tuple(
            Observation(epoch, float(min(v, 1.0)), se)
            for epoch, v in zip(self._table.epochs, curve, strict=True)
        )
        result = RunResult(
            status=RunStatus.COMPLETE,
            pauc=value,
            pauc_se=se,
            pauc_influence={str(i): float(pull) for i, pull in enumerate(pulls)},
            seconds=seconds,
        )
        return FakeRun(seconds=seconds, result=result, curve=seen)


def cross_validated(rows: Sequence[dict[str, Any]], folds: int = 10) -> dict[str, float]:
    """Predict each setting from the others; a repeat stays with its original.

    Returns:
        Rank correlation of values (all, and among the better half), of CPU seconds and of memory,
        and the root of the mean squared error of values, beside that of a training's seed.
    """
    group = np.array([r["number"] // 8 for r in rows]) % folds
    seen: list[tuple[float, ...]] = []
    for fold in range(folds):
        kept = [r for r, g in zip(rows, group, strict=True) if g != fold]
        test = [r for r, g in zip(rows, group, strict=True) if g == fold and r["value"] is not None]
        if not test:
            continue
        table = Table(kept)
        x = table.matrix([r["params"] for r in test])
        value, (cpu_s, peak) = table.average(x, table.value), table.cost(x)
        seen += [
            (r["value"], v, r["cpu_s"], c, r["peak_mib"], p)
            for r, v, c, p in zip(test, value, cpu_s, peak, strict=True)
        ]
    true, found, cpu_s, cpu_found, peak, peak_found = np.array(seen).T
    better = true >= np.median(true)
    return {
        "trainings": len(seen),
        "rank correlation of values": spearmanr(true, found)[0],
        "among the better half": spearmanr(true[better], found[better])[0],
        "of CPU seconds": spearmanr(cpu_s, cpu_found)[0],
        "of memory": spearmanr(peak, peak_found)[0],
        "RMS error of values": float(np.sqrt(np.mean((true - found) ** 2))),
        "sd of a seed": Table(rows).seed_sd,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    rows = read_rows(parser.parse_args().table)
    values = [r["value"] for r in rows if r["value"] is not None]
    outcomes = {o: sum(r["outcome"] == o for r in rows) for o in {r["outcome"] for r in rows}}
    print(f"{len(rows)} trainings: {outcomes}")
    print("values at 0, 10, ..., 100%:", np.round(np.quantile(values, np.linspace(0, 1, 11)), 3))
    print(f"CPU seconds: {sum(r['cpu_s'] for r in rows):.0f}")
    for name, figure in cross_validated(rows).items():
        print(f"{name}: {figure:.3f}")


if __name__ == "__main__":
    main()
