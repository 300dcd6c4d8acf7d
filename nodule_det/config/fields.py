"""The settings of a dataclass, one by one: dotted name, default and docstring."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints


def settings(schema: type, prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Walk the settings of a dataclass: dotted name, then (default, docstring)."""
    hints = get_type_hints(schema)
    docs = _field_docs(schema)
    for f in fields(schema):
        if is_dataclass(hints[f.name]):
            yield from settings(hints[f.name], f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        yield f"{prefix}{f.name}", (default, docs.get(f.name, ""))


def text_settings(schema: type, prefix: str = "") -> dict[str, bool]:
    """Return the settings that hold text, such as a path: dotted name -> may also be a list."""
    found: dict[str, bool] = {}
    for name, hint in get_type_hints(schema).items():
        if is_dataclass(hint):
            found |= text_settings(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif hint in (str, str | None, Any):
            found[prefix + name] = hint is Any
    return found


def _field_docs(schema: type) -> dict[str, str]:
    """Read the docstring below each field, which Python does not keep, inherited ones first."""
    docs: dict[str, str] = {}
    for part in reversed(schema.__mro__):
        if is_dataclass(part):
            docs |= _own_field_docs(part)
    return docs


def _own_field_docs(schema: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(schema))).body[0]
    if not isinstance(body, ast.ClassDef):
        return {}
    docs = {}
    for node, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            docs[node.target.id] = inspect.cleandoc(str(below.value.value))
    return docs


def as_plain(config: Any) -> Any:
    """Convert a dataclass of settings to plain values, for YAML; ``to_config`` reads it back."""
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: as_plain(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, Enum):
        return config.value
    if isinstance(config, list | tuple):
        return [as_plain(item) for item in config]
    return config


def as_typed(value: Any) -> str:
    """Format a default the way a user would type it.

    Example:
        >>> as_typed([None, True, 0.5])
        '[null,true,0.5]'
    """
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    return str(value)
