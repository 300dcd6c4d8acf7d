"""Checks shared by several settings.  Each error names the setting as the user typed it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nodule_det.errors import ConfigError


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high]."""
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} must lie in [{low}, {high}]")


def require_step(name: str, value: int, low: int, high: int, step: int) -> None:
    """Refuse a value that is not one of low, low + step, ..., high."""
    if not low <= value <= high or (value - low) % step:
        raise ConfigError(f"{name}={value} must be one of {low}, {low + step}, ..., {high}")


def require_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuse a value that is not among the choices."""
    if value not in choices:
        raise ConfigError(f"{name}={value} must be one of {', '.join(map(str, choices))}")
