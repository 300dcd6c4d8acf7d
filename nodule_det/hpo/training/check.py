"""Check a search space against the settings of the train command before anything is submitted.

Space, TrainConfig ──check_space()──▶ ConfigError, or nothing
TrainConfig, params ──with_params()──▶ TrainConfig, checked again
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from nodule_det.config.fields import settings
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.space.space import Space, Value
from nodule_det.hpo.training.command import override_words

CODE = ("model.factory", "model.kwargs")
"""Settings that decide which code runs.  A search space may come from elsewhere, so it must not."""

CHECKED_POINTS = 200
"""Number of random points of a space that are checked."""

Config = TypeVar("Config")


def check_space(
    space: Space, train: TrainConfig, seed: int = 0, *, processes_per_job: int = 1
) -> None:
    """Check a search space against the settings of the train command.

    Every name must be a setting.  The checks of the settings must accept the first points, the ends
    of each parameter, and many random points.

    Args:
        space: Parameters.
        train: Settings shared by all trials.
        seed: Of the random points.
        processes_per_job: Processes that share a batch.

    Raises:
        ConfigError: If a name or a point is refused, or a batch cannot be shared.
    """
    known = [name for name, _ in settings(TrainConfig) if name not in ("run_dir", *CODE)]
    for parameter in space:
        if parameter.name in CODE:
            raise ConfigError(
                f"the search space has {parameter.name}, which names code to run; set "
                f"train.{parameter.name} on the command line instead"
            )
        if parameter.name.startswith("model.kwargs.") and train.model.factory:
            continue
        if parameter.name not in known:
            raise ConfigError(
                f"the search space has {parameter.name}, which is not a setting of the train "
                f"command; its settings are: {', '.join(known)}"
            )
    rng = np.random.default_rng(seed)
    middle = np.full(space.dimension, 0.5)
    corners = [
        np.where(np.arange(space.dimension) == i, end, middle)
        for i in range(space.dimension)
        for end in (0.0, 1.0)
    ]
    points = [*space.first, *map(space.from_unit, corners)]
    points += [space.sample(rng) for _ in range(CHECKED_POINTS)]
    for params in points:
        try:
            batch_size = with_params(train, params).optim.batch_size
        except ConfigError as error:
            raise ConfigError(
                f"the search space allows {shlex.join(override_words(params))}, "
                f"which the train command refuses: {error}"
            ) from None
        if batch_size % processes_per_job:
            raise ConfigError(
                f"optim.batch_size={batch_size} cannot be shared equally by "
                f"dispatcher.processes_per_job={processes_per_job}; use batch sizes that it divides"
            )


def with_params(config: Config, params: Mapping[str, Value]) -> Config:
    """Return a config with some settings changed, and check it again.

    Raises:
        ConfigError: If a setting does not exist, has the wrong type, or is refused.
    """
    here = {name: value for name, value in params.items() if "." not in name}
    below: dict[str, dict[str, Value]] = {}
    for name, value in params.items():
        head, dot, rest = name.partition(".")
        if dot:
            below.setdefault(head, {})[rest] = value
    changes: dict[str, Any] = {name: _as_type_of(config, name, v) for name, v in here.items()}
    for head, inner in below.items():
        part = changes.get(head, getattr(config, head))
        changes[head] = part | inner if isinstance(part, dict) else with_params(part, inner)
    return replace(config, **changes)  # type: ignore[type-var]


def _as_type_of(config: object, name: str, value: Value) -> Any:
    old = getattr(config, name)
    if isinstance(old, Enum):
        return type(old)(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and type(old) is not type(value):
        raise ConfigError(f"{name}={value} must be of type {type(old).__name__}")
    return value
