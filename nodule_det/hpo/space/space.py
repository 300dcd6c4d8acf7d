"""The search space: which settings are tuned over which values, and how they map to a unit cube.

    conf/space/NAME.yaml ──read_space()──▶ Space ──sample(), from_unit()──▶ params ──▶ overrides

A name is an override of the train command (``optim.lr``), so the values of a trial *are* its
command line.  Every tuned parameter has one coordinate in [0, 1]: linear or logarithmic for
numbers, equal bins for lists and integers, with each value at the centre of its bin.  A parameter
that depends on another one (an upper bound, a condition) comes after it in the file.  Its
coordinate is relative to the range that the other one allows, so every point of the cube is valid.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from nodule_det.arrays import FloatArray
from nodule_det.errors import ConfigError

Value: TypeAlias = bool | int | float | str
Params: TypeAlias = dict[str, Value]
"""The values of a trial, keyed by override name; a parameter whose condition fails is absent."""

PRIOR_FLOOR = 0.01
"""Share of a prior that is uniform, relative to its peak."""

INACTIVE = 0.5
"""Coordinate of an absent parameter: the middle of the range."""


class Kind(StrEnum):
    """The type of a parameter."""

    FLOAT = "float"
    INT = "int"
    ORDINAL = "ordinal"
    CATEGORICAL = "categorical"
    BOOL = "bool"
    FIXED = "fixed"


@dataclass(frozen=True)
class AtMost:
    """An upper bound that depends on another parameter: ``times`` its value."""

    of: str
    times: float = 1.0


@dataclass(frozen=True)
class Prior:
    """Where good values are expected: a normal density around ``center``, or a weight per value.

    ``spread`` is one standard deviation in units of the parameter.  On a log scale it is a factor
    (10 = one decade either way).
    """

    center: float = 0.0
    spread: float = 1.0
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter and its values."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    """Step between integers, counted from ``low``."""
    log: bool = False
    values: tuple[Value, ...] = ()
    """The values of an ordinal, categorical, bool or fixed parameter."""
    at_most: AtMost | None = None
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()
    """Present only when each of these parameters has one of these values."""
    prior: Prior | None = None

    def active(self, params: Mapping[str, Value]) -> bool:
        """Return whether its conditions hold for the values of its parents."""
        return all(params.get(name) in values for name, values in self.when)

    def upper(self, params: Mapping[str, Value]) -> float:
        """Return the largest value that its parent's value allows, on its own grid."""
        if self.at_most is None:
            return self.high
        bound = min(self.high, self.at_most.times * float(params[self.at_most.of]))
        if self.kind is Kind.INT:
            return self.low + (bound - self.low) // self.step * self.step
        return bound

    def choices(self, params: Mapping[str, Value]) -> Sequence[Value] | None:
        """List the values that its parents' values allow; None if it is continuous."""
        if self.kind is Kind.FLOAT:
            return None
        if self.kind is Kind.INT:
            return range(int(self.low), int(self.upper(params)) + 1, self.step)
        return self.values

    def to_unit(self, value: Value, params: Mapping[str, Value]) -> float:
        """Map a value to its coordinate in [0, 1]."""
        if self.kind not in (Kind.FLOAT, Kind.INT):
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = self._edges(params)
        return (self._scaled(float(value)) - low) / (high - low) if high > low else INACTIVE

    def from_unit(self, u: float, params: Mapping[str, Value]) -> Value:
        """Map a coordinate, clipped to [0, 1], to the value of its bin."""
        u = min(max(float(u), 0.0), 1.0)
        if self.kind not in (Kind.FLOAT, Kind.INT):
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        low, high = self._edges(params)
        value = low + u * (high - low)
        value = math.exp(value) if self.log else value
        if self.kind is Kind.FLOAT:
            return min(max(value, self.low), self.upper(params))
        index = math.floor((value - self.low) / self.step + 0.5)
        last = round((self.upper(params) - self.low) / self.step)
        return int(self.low) + self.step * min(max(index, 0), last)

    def _edges(self, params: Mapping[str, Value]) -> tuple[float, float]:
        """Return the ends of the axis; an integer extends it by half a step on either side."""
        half = self.step / 2 if self.kind is Kind.INT else 0.0
        return self._scaled(self.low - half), self._scaled(self.upper(params) + half)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def check(self, value: Value, params: Mapping[str, Value]) -> Value:
        """Return the value converted to its own type (``1`` for ``1.0``), or refuse it."""
        if self.kind is Kind.FLOAT:
            number = as_number(value, self.name)
            if self.low <= number <= self.upper(params):
                return number
            raise ConfigError(
                f"{self.name}={value} is outside [{self.low:g}, {self.upper(params):g}] "
                "of the search space"
            )
        if self.kind is Kind.INT:
            number = as_number(value, self.name)
            steps = (number - self.low) / self.step
            if self.low <= number <= self.upper(params) and steps == int(steps):
                return int(number)
        value = number_in_text(value)
        for choice in self.values:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        allowed = self.choices(params) or ()
        listed = ", ".join(map(str, allowed[:20])) + (", ..." if len(allowed) > 20 else "")
        raise ConfigError(f"{self.name}={value} is not in the search space: {listed}")

    def log_prior(self, u: float, params: Mapping[str, Value]) -> float:
        """Return the log of its prior relative to the peak, at a coordinate; 0 without a prior.

        A wrong prior must not exclude points, so a share of ``PRIOR_FLOOR`` is uniform.
        """
        if self.prior is None:
            return 0.0
        if self.prior.weights:
            index = min(int(u * len(self.values)), len(self.values) - 1)
            share = self.prior.weights[index] / max(self.prior.weights)
        else:
            center, spread = self._bell(self.prior, params)
            share = math.exp(-0.5 * ((u - center) / spread) ** 2)
        return math.log(PRIOR_FLOOR + (1 - PRIOR_FLOOR) * share)

    def draw(self, rng: np.random.Generator, params: Mapping[str, Value]) -> float:
        """Draw a coordinate from its prior; uniform without one."""
        if self.prior is None:
            return float(rng.uniform())
        if self.prior.weights:
            weights = np.asarray(self.prior.weights)
            index = int(rng.choice(len(weights), p=weights / weights.sum()))
            return (index + 0.5) / len(weights)
        center, spread = self._bell(self.prior, params)
        for _ in range(1000):
            u = rng.normal(center, spread)
            if 0 <= u <= 1:
                return float(u)
        return min(max(center, 0.0), 1.0)

    def _bell(self, prior: Prior, params: Mapping[str, Value]) -> tuple[float, float]:
        """Return centre and standard deviation of the prior in the unit coordinate."""
        low, high = self._edges(params)
        width = max(high - low, 1e-12)
        return (self._scaled(prior.center) - low) / width, (self._scaled(prior.spread) / width)


@dataclass(frozen=True)
class Space:
    """All parameters of a search, parents before those that depend on them."""

    parameters: tuple[Parameter, ...]
    first: tuple[Params, ...] = ()
    """Points tried before all others, such as a practitioner's defaults."""

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters that have a coordinate: all but the fixed ones, in order."""
        return tuple(p for p in self.parameters if p.kind is not Kind.FIXED)

    @property
    def dimension(self) -> int:
        """Number of coordinates of a point."""
        return len(self.free)

    def to_unit(self, params: Mapping[str, Value]) -> FloatArray:
        """Map params to a point of the unit cube, (d,); absent parameters get ``INACTIVE``."""
        return np.array(
            [p.to_unit(params[p.name], params) if p.name in params else INACTIVE for p in self.free]
        )

    def from_unit(self, point: ArrayLike) -> Params:
        """Map any point of the unit cube, (d,), to the valid params it represents."""
        coordinates = iter(np.asarray(point, np.float64))
        params: Params = {}
        for p in self.parameters:
            u = INACTIVE if p.kind is Kind.FIXED else float(next(coordinates))
            if p.active(params):
                params[p.name] = p.from_unit(u, params)
        return params

    @property
    def finite(self) -> bool:
        """Whether it has a finite number of points, since no parameter is a float."""
        return all(p.kind is not Kind.FLOAT for p in self.free)

    def points(self) -> Iterator[Params]:
        """Iterate over the points of a finite space; over none if a parameter is a float."""
        if self.finite:
            yield from _extensions({}, self.parameters)

    def sample(self, rng: np.random.Generator) -> Params:
        """Draw params uniformly from the unit cube."""
        return self.from_unit(rng.uniform(size=self.dimension))

    def sample_prior(self, rng: np.random.Generator) -> Params:
        """Draw params from the priors, uniformly where a parameter has none."""
        params: Params = {}
        for p in self.parameters:
            if p.active(params):
                params[p.name] = p.from_unit(p.draw(rng, params), params)
        return params

    def log_prior(self, params: Mapping[str, Value]) -> float:
        """Sum the log prior densities, up to a constant."""
        return sum(
            p.log_prior(p.to_unit(params[p.name], params), params)
            for p in self.free
            if p.name in params
        )

    def check(self, params: Mapping[str, Any]) -> Params:
        """Return params in their own types and order.

        Raises:
            ConfigError: If a parameter is unknown, missing, or has a value outside the space.
        """
        known = {p.name for p in self.parameters}
        for name in params:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"{name} is not in the search space{hint}")
        checked: Params = {}
        for p in self.parameters:
            if not p.active(checked):
                if p.name in params:
                    raise ConfigError(
                        f"{p.name}={params[p.name]} is set, but it only exists when "
                        + " and ".join(f"{n} is one of {list(v)}" for n, v in p.when)
                    )
            elif p.name in params:
                checked[p.name] = p.check(params[p.name], checked)
            elif p.kind is Kind.FIXED:
                checked[p.name] = p.values[0]
            else:
                raise ConfigError(f"{p.name} is missing from the point {dict(params)}")
        return checked

    def as_dict(self) -> dict[str, Any]:
        """Return the content of its YAML file; ``parse_space`` reads it back."""
        return {
            "parameters": {p.name: _parameter_dict(p) for p in self.parameters},
            "first": [dict(point) for point in self.first],
        }


def _extensions(params: Params, parameters: Sequence[Parameter]) -> Iterator[Params]:
    """Iterate over all ways to add values of the given parameters, which are not floats."""
    if not parameters:
        yield params
        return
    p, others = parameters[0], parameters[1:]
    values = (p.choices(params) or ()) if p.active(params) else (None,)
    for value in values:
        extended = params if value is None else {**params, p.name: value}
        yield from _extensions(extended, others)


def point_key(params: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Return the identity of a point: equal for equal params, whatever their order."""
    return tuple(sorted(params.items()))


_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", re.ASCII)


def number_in_text(value: Any) -> Any:
    """Convert text such as 1e-8, which YAML 1.1 takes for text since it has no point.

    Example:
        >>> number_in_text("1e-8"), number_in_text("1e"), number_in_text(3)
        (1e-08, '1e', 3)
    """
    is_number = isinstance(value, str) and _EXPONENT.fullmatch(value)
    return float(value) if is_number and math.isfinite(float(value)) else value


def as_number(value: Any, name: str) -> float:
    """Return a finite number.  Accepts text, because YAML 1.1 reads 1e-8 (no point) as text."""
    if isinstance(value, bool) or value is None:
        raise ConfigError(f"{name}={value} must be a number")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={value} must be a number") from None
    except OverflowError:
        raise ConfigError(f"{name} must be a number below 1e308") from None
    if not math.isfinite(number):
        raise ConfigError(f"{name}={value} must be finite")
    return number


def _parameter_dict(p: Parameter) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": p.kind.value}
    if p.kind in (Kind.FLOAT, Kind.INT):
        whole = p.kind is Kind.INT
        out |= {"low": int(p.low) if whole else p.low, "high": int(p.high) if whole else p.high}
        if p.step != 1:
            out["step"] = p.step
        if p.log:
            out["log"] = True
    elif p.kind is Kind.FIXED:
        out["value"] = p.values[0]
    elif p.kind is not Kind.BOOL:
        out["values"] = list(p.values)
    if p.at_most is not None:
        out["at_most"] = {"of": p.at_most.of, "times": p.at_most.times}
    if p.when:
        out["when"] = {name: list(values) for name, values in p.when}
    if p.prior is not None and p.prior.weights:
        out["prior"] = {"weights": list(p.prior.weights)}
    elif p.prior is not None:
        out["prior"] = {"center": p.prior.center, "spread": p.prior.spread}
    return out
