"""Read search spaces from YAML files: a checked :class:`Space`, or an error that names the fault.

    conf/space/NAME.yaml or any path ──read_space()──▶ Space

Refuses everything that could not run: unknown keys, empty ranges, and bounds or conditions that
refer to a parameter defined further down.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodule_det.config.files import CONF_DIR
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.space import (
    AtMost,
    Kind,
    Parameter,
    Prior,
    Space,
    Value,
    as_number,
    number_in_text,
)
from nodule_det.untrusted import read_yaml


def read_space(space: str) -> Space:
    """Read a search space: the name of a file in ``conf/space``, or a path.

    Raises:
        ConfigError: If the file does not exist or its content is invalid.
    """
    named = Path(CONF_DIR) / "space" / f"{space}.yaml"
    path = named if named.is_file() else Path(space)
    try:
        content = read_yaml(path)
    except OSError:
        names = ", ".join(sorted(p.stem for p in named.parent.glob("*.yaml")))
        raise ConfigError(
            f"search_space={space} is neither a readable YAML file nor one of: {names}"
        ) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    try:
        return parse_space(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_space(content: Any) -> Space:
    """Build a space from the mapping in its YAML file.

    Raises:
        ConfigError: If anything in it is unknown, missing or invalid.
    """
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
        raise ConfigError("a search space must be a mapping with 'parameters', optionally 'first'")
    _refuse_unknown(content, {"parameters", "first"}, "the search space")
    parameters: list[Parameter] = []
    for name, settings in content["parameters"].items():
        if not _NAME.fullmatch(str(name)):
            raise ConfigError(f"{name} is not a valid parameter name: use letters, digits, . _ -")
        parameters.append(_parse_parameter(str(name), settings, parameters))
    space = Space(tuple(parameters))
    if not space.free:
        raise ConfigError("the search space has no free parameter: add one that is not fixed")
    points = content.get("first") or []
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise ConfigError("first must be a list of points, each a mapping of names to values")
    return Space(tuple(parameters), tuple(space.check(point) for point in points))


_NAME = re.compile(r"[+-]{0,2}[A-Za-z_][\w./@:-]*", re.ASCII)
"""Names that may precede = on a command line: ``optim.lr`` for Hydra, ``--lr`` for argparse."""
MOST_VALUES = 1_000_000
"""Largest number of values of an integer parameter, since they are listed."""


_KEYS = {"kind", "low", "high", "step", "log", "values", "value", "at_most", "when", "prior"}
_KEYS_OF = {
    Kind.FLOAT: {"low", "high", "log", "at_most"},
    Kind.INT: {"low", "high", "step", "log", "at_most"},
    Kind.ORDINAL: {"values"},
    Kind.CATEGORICAL: {"values"},
    Kind.BOOL: set(),
    Kind.FIXED: {"value"},
}


def _parse_parameter(name: str, settings: Any, above: Sequence[Parameter]) -> Parameter:
    if not isinstance(settings, dict) or "kind" not in settings:
        raise ConfigError(f"{name} needs a kind: {', '.join(Kind)}")
    _refuse_unknown(settings, _KEYS, name)
    try:
        kind = Kind(settings["kind"])
    except (ValueError, TypeError):
        raise ConfigError(
            f"{name}: kind={settings['kind']} must be one of {', '.join(Kind)}"
        ) from None
    odd = set(settings) - _KEYS_OF[kind] - {"kind", "when", "prior"}
    if odd:
        raise ConfigError(
            f"{name}: kind={kind} does not support {', '.join(sorted(odd))}; remove it"
        )
    parents = {p.name: p for p in above}
    when = _parse_when(name, settings.get("when"), parents)
    at_most = _parse_at_most(name, settings.get("at_most"), parents)
    if kind in (Kind.FLOAT, Kind.INT):
        low, high = (as_number(settings.get(end), f"{name}: {end}") for end in ("low", "high"))
        parameter = Parameter(
            name=name,
            kind=kind,
            low=low,
            high=high,
            step=_parse_step(name, settings.get("step", 1)),
            log=bool(settings.get("log", False)),
            at_most=at_most,
            when=when,
        )
        _check_numbers(parameter, parents)
    else:
        parameter = Parameter(name=name, kind=kind, values=_values(name, kind, settings), when=when)
    prior = _parse_prior(parameter, settings.get("prior"))
    return replace(parameter, prior=prior)


def _parse_step(name: str, step: Any) -> int:
    number = as_number(step, f"{name}: step")
    if number != int(number):
        raise ConfigError(f"{name}: step={step} must be a whole number")
    return int(number)


def _values(name: str, kind: Kind, settings: dict[str, Any]) -> tuple[Value, ...]:
    if kind is Kind.BOOL:
        return (False, True)
    if kind is Kind.FIXED:
        if "value" not in settings:
            raise ConfigError(f"{name} is fixed but has no value: add value: X")
        value = number_in_text(settings["value"])
        if not isinstance(value, bool | int | float | str):
            raise ConfigError(f"{name}: value={value} must be a number, text, true or false")
        return (value,)
    values = settings.get("values")
    if not isinstance(values, list) or len(values) < 2:
        raise ConfigError(
            f"{name}: values={values} must list at least two values; for one value use kind: fixed"
        )
    values = [number_in_text(v) for v in values]
    if any(not isinstance(v, bool | int | float | str) for v in values):
        raise ConfigError(f"{name}: values={values} must be numbers, texts, true or false")
    if len({(type(v), v) for v in values}) < len(values):
        raise ConfigError(f"{name}: values={values} lists a value twice")
    return tuple(values)


def _check_numbers(p: Parameter, parents: Mapping[str, Parameter]) -> None:
    if not math.isfinite(p.high - p.low):
        raise ConfigError(f"{p.name}: the range from {p.low:g} to {p.high:g} is too wide")
    if p.low >= p.high:
        raise ConfigError(f"{p.name}: low={p.low:g} must be below high={p.high:g}")
    if p.log and p.low <= 0:
        raise ConfigError(f"{p.name}: low={p.low:g} must be above 0 on a log scale")
    if p.kind is Kind.INT:
        if p.low != int(p.low) or p.high != int(p.high) or p.step < 1:
            raise ConfigError(
                f"{p.name}: low={p.low:g}, high={p.high:g} and step={p.step} of an integer must be "
                "whole numbers, with step >= 1"
            )
        if (p.high - p.low) % p.step:
            raise ConfigError(
                f"{p.name}: high={p.high:g} is not low={p.low:g} plus a multiple of step={p.step}"
            )
        if (p.high - p.low) / p.step >= MOST_VALUES:
            raise ConfigError(
                f"{p.name}: {p.low:g} to {p.high:g} are more than {MOST_VALUES:,} integers; use a "
                "larger step, or kind: float"
            )
        if p.log and p.step != 1:
            raise ConfigError(f"{p.name}: step={p.step} cannot be combined with log; remove one")
    if p.at_most is not None:
        parent = parents[p.at_most.of]
        least = parent.low if parent.kind in (Kind.INT, Kind.FLOAT) else min(parent.values)
        if p.at_most.times * float(least) < p.low:
            raise ConfigError(
                f"{p.name}: at {parent.name}={least} its upper bound "
                f"{p.at_most.times * float(least):g} is below low={p.low:g}; lower low"
            )


def _parse_when(
    name: str, when: Any, parents: Mapping[str, Parameter]
) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    if when is None:
        return ()
    if not isinstance(when, dict):
        raise ConfigError(f"{name}: when={when} must map parameters to the values they need")
    conditions = []
    for parent, values in when.items():
        _require_parent(name, parent, parents, "when")
        values = [number_in_text(v) for v in (values if isinstance(values, list) else [values])]
        allowed = parents[parent].choices({}) if parents[parent].at_most is None else None
        for value in values:
            if allowed is not None and value not in allowed:
                raise ConfigError(f"{name}: when {parent}={value}: {parent} cannot be {value}")
        conditions.append((str(parent), tuple(values)))
    return tuple(conditions)


def _parse_at_most(name: str, at_most: Any, parents: Mapping[str, Parameter]) -> AtMost | None:
    if at_most is None:
        return None
    if not isinstance(at_most, dict) or "of" not in at_most:
        raise ConfigError(f"{name}: at_most={at_most} needs the form {{of: PARAMETER, times: 0.5}}")
    _refuse_unknown(at_most, {"of", "times"}, f"{name}: at_most")
    _require_parent(name, at_most["of"], parents, "at_most")
    parent = parents[at_most["of"]]
    numeric = all(not isinstance(v, bool | str) for v in parent.values)
    if not numeric or parent.when:
        raise ConfigError(f"{name}: at_most.of={parent.name} must be a number that always exists")
    return AtMost(parent.name, as_number(at_most.get("times", 1.0), f"{name}: at_most.times"))


def _require_parent(name: str, parent: Any, parents: Mapping[str, Parameter], setting: str) -> None:
    if not isinstance(parent, str) or parent not in parents:
        raise ConfigError(
            f"{name}: {setting} names {parent}, which is not defined above it in the search space"
        )


def _parse_prior(p: Parameter, prior: Any) -> Prior | None:
    if prior is None:
        return None
    if not isinstance(prior, dict):
        raise ConfigError(f"{p.name}: prior={prior} must be a mapping")
    if p.kind in (Kind.FLOAT, Kind.INT):
        _refuse_unknown(prior, {"center", "spread"}, f"{p.name}: prior")
        center = as_number(prior.get("center"), f"{p.name}: prior.center")
        spread = as_number(prior.get("spread"), f"{p.name}: prior.spread")
        if not p.low <= center <= p.high:
            raise ConfigError(
                f"{p.name}: prior.center={center:g} is outside [{p.low:g}, {p.high:g}]"
            )
        if spread <= (1 if p.log else 0):
            least = "1, since it is a factor on a log scale" if p.log else "0"
            raise ConfigError(f"{p.name}: prior.spread={spread:g} must be more than {least}")
        return Prior(center, spread)
    _refuse_unknown(prior, {"weights"}, f"{p.name}: prior")
    weights = prior.get("weights")
    if not isinstance(weights, list) or len(weights) != len(p.values):
        raise ConfigError(f"{p.name}: prior.weights={weights} needs one weight for each value")
    numbers = tuple(as_number(w, f"{p.name}: prior.weights") for w in weights)
    if min(numbers) <= 0:
        raise ConfigError(f"{p.name}: prior.weights={weights} must all be above 0")
    return Prior(weights=numbers)


def _refuse_unknown(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"{where} has an unknown key {key}; {hint}allowed: {', '.join(sorted(known))}"
            )
