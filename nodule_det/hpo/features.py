"""What the models of tuning see of a point: numbers on scales where equal steps mean alike.

    params ──Features.matrix()──▶ (n, d) float64

A float or an ordered list is one column.  A whole number that spans a factor of four or more
(filters, minibatch) acts through its logarithm: from 4 to 8 filters is as much as from 16 to 32.
A list without order is one column per value.  What is absent lies in the middle of its scale, so
that two points that differ only in settings without effect are one point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nodule_det.hpo.space import INACTIVE, Kind, Parameter, Params, Space, Value

LOG_SPAN = 4.0
"""A positive integer with high / low of at least this is seen through its logarithm."""

ONE_HOT = math.sqrt(0.5)
"""Two different values of an unordered list then have distance 1, as two ends of a scale have."""


class Features:
    """The map from points of one search space to model inputs."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.dimension = sum(_width(p) for p in space.free)
        """Columns of :meth:`matrix`."""

    def matrix(self, points: Sequence[Mapping[str, Value]]) -> NDArray[np.float64]:
        """Give (n, d) model inputs of n points."""
        rows = np.empty((len(points), self.dimension))
        for row, params in zip(rows, points, strict=True):
            row[:] = [x for p in self.space.free for x in _columns(p, params)]
        return rows

    def column_names(self) -> list[str]:
        """Name each column: the parameter, with its value where it is one of a list."""
        return [
            name
            for p in self.space.free
            for name in ([f"{p.name}={v}" for v in p.values] if _unordered(p) else [p.name])
        ]


def _unordered(p: Parameter) -> bool:
    return p.kind is Kind.CATEGORICAL and len(p.values) > 2


def _width(p: Parameter) -> int:
    return len(p.values) if _unordered(p) else 1


def _columns(p: Parameter, params: Mapping[str, Value]) -> list[float]:
    if p.name not in params:
        return [INACTIVE] * _width(p)
    value = params[p.name]
    if _unordered(p):
        return [ONE_HOT * (value == v) for v in p.values]
    if p.kind in (Kind.FLOAT, Kind.INT):
        return [_on_scale(p, float(value), params)]
    last = len(p.values) - 1
    return [p.values.index(value) / last if last else INACTIVE]


def _on_scale(p: Parameter, value: float, params: Mapping[str, Value]) -> float:
    low, high = p.low, p.upper(params)
    if high <= low:
        return INACTIVE
    counts = p.kind is Kind.INT and low >= 1 and p.high / low >= LOG_SPAN
    if p.log or counts:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def neighbours(space: Space, params: Params, count: int, rng: np.random.Generator) -> list[Params]:
    """Draw points near ``params``: a few values of each changed, most of them by a small step."""
    u, d = space.to_unit(params), space.dimension
    changed = rng.random((count, d)) < max(0.2, 1.5 / d)
    changed[np.arange(count), rng.integers(d, size=count)] = True
    far = rng.random((count, d)) < 0.35
    step = rng.normal(0.0, np.where(rng.random((count, d)) < 0.5, 0.12, 0.03))
    moved = np.where(far, rng.random((count, d)), _reflect(u + step))
    return [space.from_unit(row) for row in np.where(changed, moved, u)]


def _reflect(u: NDArray[np.float64]) -> NDArray[np.float64]:
    folded = np.abs(np.mod(u, 2.0))
    return np.asarray(np.where(folded > 1.0, 2.0 - folded, folded), np.float64)
