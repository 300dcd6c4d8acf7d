"""FROC figures of any detector: the command ``evaluate``, and the function of the same name.

CSV files ──python -m nodule_det.evaluate──▶ table, froc.json, froc_curve.csv, pictures
DataFrames, dicts, paths ──evaluate()──▶ Evaluation: unpacks, .plot(ax), .to_frame()

A name is loaded when it is first used, so that ``--help`` does not wait for SciPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nodule_det.evaluate.api import Evaluation, evaluate
    from nodule_det.evaluate.hits import Boxes, Masks

__all__ = ["Boxes", "Evaluation", "Masks", "evaluate"]

_PUBLIC = {"Boxes": "hits", "Evaluation": "api", "Masks": "hits", "evaluate": "api"}
"""Name -> module of this package."""


def __getattr__(name: str) -> Any:
    """Load a name of the public API (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
