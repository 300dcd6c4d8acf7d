"""Encoding of points as model inputs: numbers on scales where equal steps have equal meaning.

    params ──────Features.matrix()───▶ (n, d) float64
    unit cube ──Features.of_units()──▶ the same, for the points at those coordinates

A float or an ordered list is one column.  An integer that spans a factor of four or more (filters,
minibatch) is encoded by its logarithm: from 4 to 8 filters is the same step as from 16 to 32.  An
unordered list is one column per value.  An absent parameter is at the middle of its scale, so two
points that differ only in settings without effect are the same point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.hpo.space.space import INACTIVE, Kind, Parameter, Params, Space, Value

LOG_SPAN = 4.0
"""A positive integer with high / low of at least this is encoded by its logarithm."""

MOST_RATES = 10
"""Number of floats on a log scale above which none of them is taken for a learning rate: each adds
as many amounts to fit as there are columns."""

ONE_HOT = math.sqrt(0.5)
"""Gives two different values of an unordered list the distance 1, like the two ends of a scale."""


@dataclass(frozen=True)
class Columns:
    """What the d columns of the model inputs are."""

    parameter: tuple[int, ...]
    """(d,) index of the parameter of each column; an unordered list has several columns."""
    sheared: tuple[int, ...] = ()
    """Columns whose best value depends on the other parameters, by fitted amounts."""

    @property
    def n_parameters(self) -> int:
        """Number of parameters, each of which has one length scale."""
        return max(self.parameter, default=-1) + 1

    @property
    def shifts(self) -> BoolArray:
        """(d, d) whether the best value on column i is shifted by column j.

        Not by an unordered list: an irrelevant list of twenty values would add twenty amounts to
        fit for each sheared column.
        """
        lists = np.bincount(self.parameter, minlength=1)[list(self.parameter)] > 1
        shifts = np.zeros((len(lists), len(lists)), np.bool_)
        shifts[list(self.sheared)] = ~lists
        np.fill_diagonal(shifts, False)
        return shifts

    @property
    def n_shifts(self) -> int:
        """Number of fitted amounts."""
        return int(self.shifts.sum())


class Features:
    """The map from points of one search space to model inputs."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.dimension = sum(_width(p) for p in space.free)
        """Columns of :meth:`matrix`."""

    @property
    def columns(self) -> Columns:
        """What each column of :meth:`matrix` is."""
        widths = [_width(p) for p in self.space.free]
        return Columns(tuple(np.repeat(np.arange(len(widths)), widths).tolist()), self.sheared)

    @property
    def sheared(self) -> tuple[int, ...]:
        """Columns of floats on a log scale: rates, whose best value depends on other settings."""
        rates = [p.kind is Kind.FLOAT and p.log for p in self.space.free]
        found = tuple(int(i) for i, rate in zip(self._starts, rates, strict=True) if rate)
        return found if len(found) <= MOST_RATES else ()

    @property
    def _starts(self) -> NDArray[np.int64]:
        """(p,) first column of each parameter."""
        widths = np.array([_width(p) for p in self.space.free], np.int64)
        return np.cumsum(widths) - widths

    def matrix(self, points: Sequence[Mapping[str, Value]]) -> FloatArray:
        """Return (n, d) model inputs of n points."""
        columns = [_columns(p, points) for p in self.space.free]
        return np.concatenate([np.empty((len(points), 0)), *columns], axis=1)

    def of_units(self, units: FloatArray) -> FloatArray:
        """Return (n, d) model inputs of the points at coordinates in [0, 1], (n, p).

        The same as ``matrix([space.from_unit(u) for u in units])`` but a hundred times faster: a
        search encodes thousands of candidates for each point that is run.
        """
        seen = _Columns(len(units))
        coordinates = iter(np.clip(units, 0.0, 1.0).T)
        for p in self.space.parameters:
            seen.add(p, None if p.kind is Kind.FIXED else next(coordinates))
        return np.concatenate(
            [np.empty((len(units), 0)), *(seen.inputs(p) for p in self.space.free)], axis=1
        )


class _Columns:
    """The values of many points, a column for each parameter: numbers, or indices in a list."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._parameters: dict[str, Parameter] = {}
        self._values: dict[str, FloatArray] = {}
        self._active: dict[str, BoolArray] = {}

    def add(self, p: Parameter, u: FloatArray | None) -> None:
        """Add the next parameter of the space.  A fixed one has no coordinate."""
        active = np.full(self._n, True)
        for name, allowed in p.when:
            active &= self._active[name] & self._is_one_of(name, allowed)
        self._parameters[p.name], self._active[p.name] = p, active
        if u is None:
            self._values[p.name] = np.zeros(self._n)
        elif p.kind in (Kind.FLOAT, Kind.INT):
            self._values[p.name] = self._numbers(p, u)
        else:
            self._values[p.name] = np.minimum(np.floor(u * len(p.values)), len(p.values) - 1)

    def inputs(self, p: Parameter) -> FloatArray:
        """Return the model inputs of a parameter, (n, its columns)."""
        value = self._values[p.name]
        if p.kind in (Kind.FLOAT, Kind.INT):
            columns = _scaled(p, value, self._upper(p))[:, None]
        else:
            columns = _listed(p, value)
        return np.where(self._active[p.name][:, None], columns, INACTIVE)

    def _is_one_of(self, name: str, allowed: tuple[Value, ...]) -> BoolArray:
        p = self._parameters[name]
        numeric = p.kind in (Kind.FLOAT, Kind.INT)
        wanted = allowed if numeric else [i for i, v in enumerate(p.values) if v in allowed]
        return np.isin(self._values[name], np.array(wanted, np.float64))

    def _upper(self, p: Parameter) -> FloatArray:
        if p.at_most is None:
            return np.full(self._n, p.high)
        parent = self._parameters[p.at_most.of]
        bound = self._values[parent.name]
        if parent.kind not in (Kind.FLOAT, Kind.INT):
            bound = np.array(parent.values, np.float64)[bound.astype(int)]
        bound = np.minimum(p.high, p.at_most.times * bound)
        if p.kind is Kind.INT:
            bound = p.low + (bound - p.low) // p.step * p.step
        return np.asarray(bound)

    def _numbers(self, p: Parameter, u: FloatArray) -> FloatArray:
        upper = self._upper(p)
        half = p.step / 2 if p.kind is Kind.INT else 0.0
        low, high = np.full(self._n, p.low - half), upper + half
        if p.log:
            value = np.exp(np.log(low) + u * (np.log(high) - np.log(low)))
        else:
            value = low + u * (high - low)
        if p.kind is Kind.FLOAT:
            return np.asarray(np.minimum(np.maximum(value, p.low), upper))
        index = np.floor((value - p.low) / p.step + 0.5)
        return np.asarray(p.low + p.step * np.clip(index, 0, np.round((upper - p.low) / p.step)))


def _unordered(p: Parameter) -> bool:
    return p.kind is Kind.CATEGORICAL and len(p.values) > 2


def _width(p: Parameter) -> int:
    return len(p.values) if _unordered(p) else 1


def _columns(p: Parameter, points: Sequence[Mapping[str, Value]]) -> FloatArray:
    """Return the model inputs of a parameter at n points, (n, its columns)."""
    active = np.array([p.name in params for params in points], np.bool_)
    having = [params for params in points if p.name in params]
    values = [params[p.name] for params in having]
    columns = np.full((len(points), _width(p)), INACTIVE)
    if p.kind in (Kind.FLOAT, Kind.INT):
        upper = np.array([p.upper(params) for params in having], np.float64)
        columns[active, 0] = _scaled(p, np.array(values, np.float64), upper)
    else:
        columns[active] = _listed(p, np.array([p.values.index(v) for v in values], np.float64))
    return columns


def _listed(p: Parameter, place: FloatArray) -> FloatArray:
    """Return the model inputs of indices in a list of values, (n, its columns)."""
    if _unordered(p):
        return np.asarray(ONE_HOT * (place[:, None] == np.arange(len(p.values))))
    last = len(p.values) - 1
    return np.asarray(place / last if last else np.full(len(place), INACTIVE))[:, None]


def _scaled(p: Parameter, value: FloatArray, upper: FloatArray) -> FloatArray:
    """Scale numbers from the lower bound (0) to the upper one (1), which may vary by point."""
    counts = p.kind is Kind.INT and p.low >= 1 and p.high / p.low >= LOG_SPAN
    low, high = np.full(len(value), p.low), np.maximum(upper, p.low)
    if p.log or counts:
        value, low, high = np.log(value), np.log(low), np.log(high)
    wide = high > low
    return np.where(wide, (value - low) / np.where(wide, high - low, 1.0), INACTIVE)


def neighbours(space: Space, params: Params, count: int, rng: np.random.Generator) -> list[Params]:
    """Draw points near ``params``; see :func:`nearby`."""
    return [space.from_unit(u) for u in nearby(space.to_unit(params)[None], count, rng)]


def nearby(centers: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Draw ``count`` coordinates near each center, (n, p) -> (n * count, p).

    Each draw changes a few coordinates, most of them by a small step.
    """
    u = np.repeat(centers, count, axis=0)
    n, d = u.shape
    changed = rng.random((n, d)) < max(0.2, 1.5 / d)
    changed[np.arange(n), rng.integers(d, size=n)] = True
    far = rng.random((n, d)) < 0.35
    step = rng.normal(0.0, np.where(rng.random((n, d)) < 0.5, 0.12, 0.03))
    moved = np.where(far, rng.random((n, d)), _reflect(u + step))
    return np.where(changed, moved, u)


def _reflect(u: FloatArray) -> FloatArray:
    folded = np.abs(np.mod(u, 2.0))
    return np.asarray(np.where(folded > 1.0, 2.0 - folded, folded), np.float64)
