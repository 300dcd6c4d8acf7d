"""The classes of problems that tuning methods are compared on.

    class, number ──problem()──▶ truth(points), train(params, rng) ──▶ FakeRun

``family``     invented trainings, for which the model was made (``nodule_det.hpo.simulate``)
``trainings``  the table of real trainings (``bench/trainings``), each number with other scans
``lcbench``    deep networks on 34 data sets, with curves (``hpo_yahpo.py``; 0-16 for development)
``xgboost``    XGBoost on 119 data sets, 14 parameters (``hpo_yahpo.py``; 0-15 for development)
``classic``    test functions of optimisation with some columns made integer, ordered or Boolean
``pipelines``  scikit-learn classifiers, really cross-validated on data sets that come with it
``rough``      random smooth functions, heavy noise that is not reported, many failures

Values are in [0, 1], larger is better.  ``floor`` is the value that counts as a regret of 1: the
median of random points, or 0 where that is not known beforehand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.hpo_yahpo import YAHPO, LcBench, XgBoost, complete
from bench.trainings.surrogate import TABLE, Table, Trainings, read_rows
from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.errors import ExitCode
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.simulate.functions import Objective, search_optimum
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.space.space import Params, Space


class Problem(Protocol):
    """A simulated training program."""

    number: int
    space: Space

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the noise-free values, (n,) in [0, 1]; 0 if the training fails."""

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training."""


def largest_value(problem: Problem) -> float:
    """Search for the largest value, four times, since one search can miss it."""
    rngs = [np.random.default_rng([7, seed]) for seed in range(4)]
    return max(search_optimum(problem.space, problem.truth, rng) for rng in rngs)


def median_value(problem: Problem, n: int = 500) -> float:
    """Return the median value of random points."""
    rng = np.random.default_rng(8)
    return float(np.median(problem.truth([problem.space.sample(rng) for _ in range(n)])))


class Classic:
    """A function of the textbooks, with a third of its columns made integer, ordered or Boolean.

    Numbers 0-4, 5-9, ... go through Branin, Hartmann 6, Ackley 8, Levy 6 and Rosenbrock 5, each
    time with other columns changed.  A value of 1 is the continuous optimum, one of 0
    about the worst of random points.
    """

    NOISE_SD = 0.005

    def __init__(self, number: int) -> None:
        self.number = number
        self._function, d = CLASSICS[number % len(CLASSICS)]
        rng = np.random.default_rng(number)
        kinds = ["float"] * d
        for i in rng.choice(d, max(1, d // 3), replace=False):
            kinds[i] = str(rng.choice(["int", "ordinal", "bool"]))
        self.space = parse_space({"parameters": {f"x{i}": COLUMNS[k] for i, k in enumerate(kinds)}})
        self._worst = float(np.quantile(self._function(rng.random((4000, d))), 0.99))

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the values, (n,)."""
        found = self._function(np.array([self.space.to_unit(p) for p in points]))
        return np.clip(1 - found / self._worst, 1e-6, 1)

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Evaluate the function; the time does not depend on the point."""
        value = self.truth([params])[0] + self.NOISE_SD * rng.normal()
        seconds = 3600 * math.exp(rng.normal(0, 0.3))
        return complete(float(np.clip(value, 1e-6, 1)), self.NOISE_SD, (), seconds)


COLUMNS: dict[str, dict[str, Any]] = {
    "float": {"kind": "float", "low": 0.0, "high": 1.0},
    "int": {"kind": "int", "low": 0, "high": 9},
    "ordinal": {"kind": "ordinal", "values": [1, 2, 4, 8]},
    "bool": {"kind": "bool"},
}


def _branin(u: FloatArray) -> FloatArray:
    x, y = 15 * u[:, 0] - 5, 15 * u[:, 1]
    bowl = (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10 - 0.397887


def _hartmann(u: FloatArray) -> FloatArray:
    a = np.array([
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
    ])  # fmt: skip
    p = 1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ])  # fmt: skip
    inside = (a * (u[:, None, :] - p) ** 2).sum(-1)
    return 3.32237 - np.exp(-inside) @ np.array([1.0, 1.2, 3.0, 3.2])


def _ackley(u: FloatArray) -> FloatArray:
    x = 20 * (u - 0.37)
    far = np.exp(-0.2 * np.sqrt((x**2).mean(1)))
    return 20 * (1 - far) + np.e - np.exp(np.cos(2 * np.pi * x).mean(1))


def _levy(u: FloatArray) -> FloatArray:
    w = 1 + (20 * (u - 0.41)) / 4
    inner = (w[:, :-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:, :-1] + 1) ** 2)
    last = (w[:, -1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[:, -1]) ** 2)
    return np.sqrt(np.sin(np.pi * w[:, 0]) ** 2 + inner.sum(1) + last)


def _rosenbrock(u: FloatArray) -> FloatArray:
    x = 4 * u - 2
    steps = 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2
    return np.log1p(steps.sum(1))


CLASSICS: tuple[tuple[Callable[[FloatArray], FloatArray], int], ...] = (
    (_branin, 2), (_hartmann, 6), (_ackley, 8), (_levy, 6), (_rosenbrock, 5),
)  # fmt: skip
"""Functions of (n, d) coordinates in [0, 1] whose minimum is 0, and their d."""


class Pipelines:
    """A scikit-learn classifier on a small data set: mean accuracy of a 3-fold cross-validation.

    Even numbers tune gradient boosting, odd ones a scaled support vector machine or neighbours.
    """

    DATA = ("breast_cancer", "wine", "digits", "iris")

    def __init__(self, number: int) -> None:
        from sklearn import datasets

        self.number = number
        data = getattr(datasets, f"load_{self.DATA[number // 2 % len(self.DATA)]}")()
        rows = np.random.default_rng(number).permutation(len(data.target))[:300]
        self._x, self._y = data.data[rows], data.target[rows]
        self.space = parse_space({"parameters": BOOSTING if number % 2 == 0 else KERNELS})
        self._known: dict[tuple[Any, ...], float] = {}

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the cross-validated accuracies, (n,)."""
        return np.array([self._accuracy(p) for p in points])

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Cross-validate one setting; it takes about an hour of virtual time."""
        seconds = 3600 * math.exp(rng.normal(0, 0.3))
        return complete(float(self._accuracy(params)), None, (), seconds)

    def _accuracy(self, params: Params) -> float:
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        key = tuple(sorted(params.items()))
        if key not in self._known:
            folds = StratifiedKFold(3, shuffle=True, random_state=self.number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scores = cross_val_score(_classifier(params), self._x, self._y, cv=folds)
            self._known[key] = max(float(scores.mean()), 1e-6)
        return self._known[key]


BOOSTING: dict[str, Any] = {
    "learning_rate": {"kind": "float", "low": 0.001, "high": 1.0, "log": True},
    "n_estimators": {"kind": "int", "low": 2, "high": 40},
    "max_depth": {"kind": "int", "low": 1, "high": 6},
    "subsample": {"kind": "float", "low": 0.1, "high": 1.0},
    "max_features": {"kind": "float", "low": 0.05, "high": 1.0},
    "min_samples_leaf": {"kind": "int", "low": 1, "high": 32, "log": True},
}
KERNELS: dict[str, Any] = {
    "kind": {"kind": "categorical", "values": ["svc", "knn"]},
    "scale": {"kind": "categorical", "values": ["standard", "minmax", "none"]},
    "components": {"kind": "float", "low": 0.1, "high": 1.0},
    "c": {"kind": "float", "low": 1e-3, "high": 1e3, "log": True, "when": {"kind": ["svc"]}},
    "gamma": {"kind": "float", "low": 1e-5, "high": 10.0, "log": True, "when": {"kind": ["svc"]}},
    "neighbours": {"kind": "int", "low": 1, "high": 50, "log": True, "when": {"kind": ["knn"]}},
    "distance": {"kind": "bool", "when": {"kind": ["knn"]}},
}


def _classifier(p: Params) -> Any:
    from sklearn import decomposition, ensemble, neighbors, pipeline, preprocessing, svm

    if "kind" not in p:
        return ensemble.GradientBoostingClassifier(random_state=0, **p)
    scalers = {"standard": preprocessing.StandardScaler, "minmax": preprocessing.MinMaxScaler}
    parts: list[Any] = [scalers[str(p["scale"])]()] if p["scale"] in scalers else []
    parts.append(decomposition.PCA(min(float(p["components"]), 0.9999), svd_solver="full"))
    if p["kind"] == "svc":
        parts.append(svm.SVC(C=p["c"], gamma=p["gamma"]))
    else:
        how = "distance" if p["distance"] else "uniform"
        parts.append(neighbors.KNeighborsClassifier(int(p["neighbours"]), weights=how))
    return pipeline.make_pipeline(*parts)


class Rough:
    """A random smooth function without a ridge, with heavy noise and many failures.

    The noise has 0.7 times the spread of the values and is not reported.  A quarter of the space
    runs out of memory and a tenth diverges, each on one side of a plane.
    """

    NOISE = 0.7
    WAVES = 64
    LENGTH = 1.2
    """Length scale, in units of a column."""
    FAILURES = ((ExitCode.OUT_OF_MEMORY, 0.25), (ExitCode.DIVERGED, 0.1))

    def __init__(self, number: int) -> None:
        self.number = number
        self.space = parse_space({"parameters": ROUGH})
        self._features = Features(self.space)
        d = self._features.dimension
        rng = np.random.default_rng(number)
        self._waves = rng.normal(size=(self.WAVES, d)) / self.LENGTH
        self._phases = rng.uniform(0, 2 * np.pi, self.WAVES)
        self._heights = rng.normal(size=self.WAVES)
        self._planes = rng.normal(size=(len(self.FAILURES), d))
        x = self._features.matrix([self.space.sample(rng) for _ in range(4000)])
        sides = zip(self._planes @ x.T, self.FAILURES, strict=True)
        self._edges = np.array([np.quantile(side, 1 - share) for side, (_, share) in sides])
        raw = self._raw(x)
        self._low, self._high = float(raw.min()), float(raw.max())
        self._noise_sd = self.NOISE * 0.8 * float(raw.std()) / (self._high - self._low)

    def _raw(self, x: FloatArray) -> FloatArray:
        return np.asarray(np.cos(x @ self._waves.T + self._phases) @ self._heights)

    def _beyond(self, x: FloatArray) -> BoolArray:
        return np.asarray(x @ self._planes.T > self._edges)

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the values, (n,); about 0.1 is the worst of random points and 0.9 the best."""
        x = self._features.matrix(points)
        values = 0.1 + 0.8 * (self._raw(x) - self._low) / (self._high - self._low)
        return np.where(self._beyond(x).any(1), 0.0, np.clip(values, 1e-6, 1))

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training; the time does not depend on the point."""
        noise, seconds = self._noise_sd * rng.normal(), 3600 * math.exp(rng.normal(0, 0.3))
        beyond = self._beyond(self._features.matrix([params]))[0]
        for (code, _), fails in zip(self.FAILURES, beyond, strict=True):
            if fails:
                return FakeRun.failed(code, 0.2 * seconds)
        value = float(np.clip(self.truth([params])[0] + noise, 1e-6, 1))
        return complete(value, None, (), seconds)


ROUGH: dict[str, Any] = {
    "x0": {"kind": "float", "low": 0.0, "high": 1.0},
    "x1": {"kind": "float", "low": 0.0, "high": 1.0},
    "x2": {"kind": "float", "low": 1e-5, "high": 0.1, "log": True},
    "x3": {"kind": "float", "low": 1e-3, "high": 10.0, "log": True},
    "n": {"kind": "int", "low": 1, "high": 64, "log": True},
    "k": {"kind": "int", "low": 0, "high": 9},
    "kind": {"kind": "categorical", "values": ["a", "b", "c", "d"]},
    "flag": {"kind": "bool"},
}


@cache
def _table(path: Path) -> Table:
    rows = read_rows(path)
    if len(rows) < 50:
        raise SystemExit(f"{path} has {len(rows)} trainings, too few; run bench/trainings/make.py")
    return Table(rows)


NUMBERS = {
    "family": range(200, 212),
    "trainings": range(12),
    "lcbench": range(17),
    "classic": range(36),
    "pipelines": range(12),
    "xgboost": range(16),
    "rough": range(24),
}
"""Problems of each class that are compared; those of the family were never used to develop it."""


def problem(name: str, number: int, table: Path = TABLE, yahpo: Path = YAHPO) -> Problem:
    """Return a problem of a class.

    Raises:
        SystemExit: If there is no such class, or its data is missing.
    """
    if name == "trainings":
        return Trainings(number, _table(table))
    made: dict[str, Callable[[int], Problem]] = {
        "family": Objective,
        "lcbench": partial(LcBench, folder=yahpo),
        "xgboost": partial(XgBoost, folder=yahpo),
        "classic": Classic,
        "pipelines": Pipelines,
        "rough": Rough,
    }
    if name not in made:
        raise SystemExit(f"{name} is not a class: use one of {', '.join(NUMBERS)}")
    return made[name](number)


def best_and_floor(name: str, made: Problem) -> tuple[float, float]:
    """Return the value of regret 0 and that of regret 1."""
    if name == "pipelines":  # too slow to search
        return 1.0, 0.0
    if name == "family":
        return largest_value(made), 0.0  # as in the table of docs/tuning-methods.md
    return largest_value(made), median_value(made)
