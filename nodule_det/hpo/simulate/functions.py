"""Simulated trainings over the search space of Nomura et al., for measuring strategies.

    number ──Objective()──▶ truth(points), hours(points), train(params, rng) ──▶ FakeRun

Each number selects another function of one family: a ridge in the learning rate that depends on
minibatch, depth and filters, a trade-off between capacity and augmentation, a memory limit,
divergence, and random ripples.  The functions are invented.  They rank tuning methods, but do not
predict the score of any detector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.errors import ExitCode
from nodule_det.hpo.model.encoding import neighbours
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params, Space
from nodule_det.hpo.study.trial import Observation
from nodule_det.runs import RunResult, RunStatus

Columns = dict[str, FloatArray]

EPOCHS = 45
"""Length of a complete training, with ``VALIDATIONS`` evenly spaced validations."""
VALIDATIONS = 9
MAX_SHIFT_SHARE = 0.5
"""Largest shift as a fraction of the patch."""
TOO_FAST = 1.1
"""Decades above the best learning rate at which a training diverges."""
CRASHES = 0.02
"""Fraction of jobs whose node crashes, independent of their parameters."""
WAVES = 24
SCANS = 60
"""Number of validation scans, the same for all trainings of a function."""
SHARED = 3.0
"""Standard error that all trainings share, because their scans are hard or easy for all of them, in
units of the standard error of one alone."""

_RANGES = {
    "patch": (32, 64),
    "depth": (2, 4),
    "filters": (4, 32),
    "kernel": (3, 5),
    "residual": (0, 1),
    "batch": (2, 16),
    "log_lr": (-8, -2),
    "beta1": (0.9, 0.99),
    "copies": (0, 4),
    "shift": (0, 1),
    "rotate": (0, 1),
}


def search_optimum(
    space: Space, truth: Callable[[Sequence[Params]], FloatArray], rng: np.random.Generator
) -> float:
    """Search for the largest value by many random points and neighbours of the best.

    Args:
        space: The search space.
        truth: Points -> noise-free values, (n,).
        rng: Source of the points.
    """
    points = [space.sample(rng) for _ in range(10_000)]
    for _ in range(30):
        values = truth(points)
        best = [points[i] for i in np.argsort(-values)[:30]]
        points = best + [n for p in best for n in neighbours(space, p, 20, rng)]
    return float(truth(points).max())


class Objective:
    """One function of the family, fully determined by its number.

    Args:
        number: Seed of the function.
        waves: Factor of the random ripples; 0 makes the function smooth.
    """

    def __init__(self, number: int, waves: float = 1.0) -> None:
        rng = np.random.default_rng(90210 + number)
        u = rng.uniform
        self.number = number
        self.space: Space = read_space("nomura")
        self._top, self._noise_sd = u(0.62, 0.74), u(0.010, 0.020)
        self._lr = u(-4.3, -3.3)
        self._lr_batch, self._lr_depth, self._lr_filters = (
            u(0.15, 0.45),
            u(0.15, 0.40),
            u(0.08, 0.25),
        )
        self._lr_residual, self._lr_beta = u(0.1, 0.4), u(0.1, 0.35)
        self._too_slow, self._too_fast = u(0.55, 0.9), u(0.28, 0.45)
        self._capacity, self._capacity_copies, self._overfit = (
            u(0.40, 0.65),
            u(0.25, 0.55),
            u(0.35, 0.7),
        )
        self._patch, self._patch_depth = u(-0.02, 0.05), u(0.02, 0.06)
        self._kernel, self._kernel_depth = u(-0.03, 0.02), u(-0.04, -0.01)
        self._residual, self._batch, self._batch_curve = u(0.02, 0.05), u(1.8, 3.4), u(0.012, 0.03)
        self._beta, self._beta_curve = u(-1.25, -1.0), u(0.05, 0.15)
        self._copies, self._shift, self._shift_curve = u(0.04, 0.10), u(0.2, 0.55), u(0.06, 0.16)
        self._rotate, self._memory_limit = u(-0.01, 0.04), u(2.2, 3.2)
        self._waves = rng.normal(0, 1.6, (WAVES, len(_RANGES)))
        self._phases, self._heights = u(0, 2 * np.pi, WAVES), rng.normal(0, 0.012, WAVES)
        self._heights *= waves
        scans = np.random.default_rng([90210 + number, 1])
        self._ease = scans.normal(size=SCANS)
        """How much easier each scan is than expected, in standard deviations."""
        self._common = _direction(scans)
        """How much each scan counts in the shared error."""

    def truth(self, points: Sequence[Params]) -> FloatArray:
        """Return the noise-free scores, (n,) in [0, 1]; 0 if the training fails."""
        c = _columns(points)
        lag = c["log_lr"] - self._best_log_lr(c)
        score = np.clip(self._top * self._ridge(lag) * self._quality(c), 0, 1)
        return np.where(self._too_large(c) | (lag > TOO_FAST), 0.0, score)

    def hours(self, points: Sequence[Params]) -> FloatArray:
        """Return the typical hours of complete trainings, (n,)."""
        c = _columns(points)
        size = (c["patch"] / 64) ** 3 * (c["filters"] / 32) ** 2 * (c["kernel"] / 3) ** 3
        busy = c["batch"] / (c["batch"] + 4)
        return 0.4 + 0.33 * size * (1 + c["copies"]) / busy

    def train(self, params: Params, rng: np.random.Generator) -> FakeRun:
        """Simulate one training; duration and own noise are drawn from ``rng``.

        The noise is the sum over the scans of their ease times their influence on this training,
        which the training reports.
        """
        c = _columns([params])
        seconds = 3600 * float(self.hours([params])[0]) * math.exp(rng.normal(0, 0.15))
        share = float(rng.random())
        if self._too_large(c)[0]:
            return FakeRun.failed(ExitCode.OUT_OF_MEMORY, 180 + 72 * share)
        truth = float(self.truth([params])[0])
        if truth == 0.0:
            return FakeRun.failed(ExitCode.DIVERGED, 0.1 * seconds + 180)
        sd = self._noise_sd * min(1.0, truth / 0.2)
        influence = sd * (SHARED * self._common + _direction(rng))
        value = float(np.clip(truth + influence @ self._ease, 0, 1))
        se = sd * math.hypot(SHARED, 1) * math.exp(rng.normal(0, 0.1))
        lag = float((c["log_lr"] - self._best_log_lr(c))[0])
        curve = _curve(value, lag, sd, se, rng)
        best = max(curve, key=lambda o: o.value)
        result = RunResult(
            status=RunStatus.COMPLETE,
            pauc=best.value,
            pauc_se=se,
            pauc_influence={str(i): pull for i, pull in enumerate(influence.tolist())},
            seconds=seconds,
        )
        return FakeRun(seconds=seconds, result=result, curve=curve)

    def optimum(self) -> float:
        """Search for the largest score, which takes some seconds."""
        return search_optimum(self.space, self.truth, np.random.default_rng(7))

    def _best_log_lr(self, c: Columns) -> FloatArray:
        beta = np.log10(1 - c["beta1"]) + 1
        return (
            self._lr
            + self._lr_batch * np.log2(c["batch"] / 8)
            - self._lr_depth * (c["depth"] - 3)
            - self._lr_filters * np.log2(c["filters"] / 16)
            + self._lr_residual * c["residual"]
            + self._lr_beta * beta
        )

    def _ridge(self, lag: FloatArray) -> FloatArray:
        """Decrease from a flat top: steeply to high learning rates, slowly to low ones."""
        width = np.where(lag > 0, self._too_fast, self._too_slow)
        crest = 1 / (1 + np.exp(6 * np.abs(lag) - 2.4))
        return np.asarray(np.maximum(np.exp(-0.5 * (lag / width) ** 2), crest))

    def _quality(self, c: Columns) -> FloatArray:
        copies = c["copies"] / 4
        augmented = copies > 0
        variety = copies * (0.4 + 0.3 * c["shift"] + 0.3 * c["rotate"])
        large, wide = c["patch"] == 64, c["kernel"] == 5
        filters, beta = np.log2(c["filters"] / 16), np.log10(1 - c["beta1"])
        capacity = 0.5 * (filters + 2) / 3 + 0.25 * (c["depth"] - 2) + 0.12 * wide
        wanted = self._capacity + self._capacity_copies * variety
        unit = np.column_stack([(c[n] - low) / (high - low) for n, (low, high) in _RANGES.items()])
        return np.asarray(
            1
            - self._overfit * (capacity - wanted) ** 2
            + large * (self._patch + self._patch_depth * (c["depth"] - 3))
            + wide * (self._kernel + self._kernel_depth * (c["depth"] - 2))
            + self._residual * c["residual"] * (c["depth"] - 2.5)
            - self._batch_curve * (np.log2(c["batch"]) - self._batch) ** 2
            - self._beta_curve * (beta - self._beta) ** 2
            + self._copies * np.sqrt(copies)
            - augmented * self._shift_curve * (c["shift"] - self._shift) ** 2
            + augmented * self._rotate * c["rotate"]
            + np.cos(unit @ self._waves.T + self._phases) @ self._heights
        )

    def _too_large(self, c: Columns) -> BoolArray:
        gib = c["patch"] ** 3 * c["filters"] * c["batch"] * 4 / 2**30
        layers = 6 + 2 * c["residual"] + c["depth"]
        return np.asarray(gib * layers * np.where(c["kernel"] == 5, 1.4, 1.0) > self._memory_limit)


def _direction(rng: np.random.Generator) -> FloatArray:
    """Draw a random vector of length 1, (SCANS,)."""
    drawn = rng.normal(size=SCANS)
    return np.asarray(drawn / np.linalg.norm(drawn))


def _columns(points: Sequence[Params]) -> Columns:
    def column(name: str, absent: float = 0.0) -> FloatArray:
        return np.array([p.get(name, absent) for p in points], np.float64)

    patch = column("patches.size_vox")
    return {
        "patch": patch,
        "depth": column("model.depth"),
        "filters": column("model.filters"),
        "kernel": column("model.kernel_size"),
        "residual": column("model.residual"),
        "batch": column("optim.batch_size"),
        "log_lr": np.log10(column("optim.lr")),
        "beta1": column("optim.beta1"),
        "copies": column("augment.copies"),
        "shift": column("augment.shift_vox") / (MAX_SHIFT_SHARE * patch),
        "rotate": column("augment.rotate"),
    }


def _curve(
    value: float, lag: float, sd: float, se: float, rng: np.random.Generator
) -> tuple[Observation, ...]:
    """Return a curve that ends at ``value`` and rises more slowly at learning rates below the best.

    All validations use the same cases, so they share most of their noise with the final value.
    """
    pace = 8.0 * math.exp(min(max(-lag, -0.5), 2.0) * 0.5)
    epochs = [EPOCHS * (i + 1) // VALIDATIONS for i in range(VALIDATIONS)]
    end = 1 - math.exp(-EPOCHS / pace)
    rise = [value * (1 - math.exp(-e / pace)) / end for e in epochs]
    jitter = 0.3 * sd * rng.normal(size=VALIDATIONS)
    jitter[-1] = 0.0
    seen = [min(max(v + j, 0.0), 1.0) for v, j in zip(rise, jitter, strict=True)]
    return tuple(Observation(e, float(v), se) for e, v in zip(epochs, seen, strict=True))
