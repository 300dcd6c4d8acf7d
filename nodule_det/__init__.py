"""Lung-nodule detection in chest CT: from scans on disk to a FROC figure, tuned on a cluster.

    open_store ──▶ Feed ──▶ any training loop ──▶ predict_volume ──▶ find_candidates ──▶ evaluate

Importing the package takes milliseconds: a name of the public API is loaded when it is first used.
``docs/python.md`` shows each of them; ``nodule_det.evaluate.evaluate`` is in its own package, which
needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nodule_det.candidates import find_candidates
    from nodule_det.checkpoint import load_model
    from nodule_det.config.train import CandidateConfig, TrainConfig
    from nodule_det.data.feed.feed import Feed
    from nodule_det.data.readers.read import read_scan
    from nodule_det.data.store import open_store
    from nodule_det.inference import predict_volume
    from nodule_det.model.probe import measure
    from nodule_det.model.window import normalise
    from nodule_det.train.losses import detection_loss

__version__ = "0.1.0"

_PUBLIC = {
    "CandidateConfig": "config.train",
    "Feed": "data.feed.feed",
    "TrainConfig": "config.train",
    "detection_loss": "train.losses",
    "find_candidates": "candidates",
    "load_model": "checkpoint",
    "measure": "model.probe",
    "normalise": "model.window",
    "open_store": "data.store",
    "predict_volume": "inference",
    "read_scan": "data.readers.read",
}
"""Name -> module of the package."""

__all__ = [
    "CandidateConfig",
    "Feed",
    "TrainConfig",
    "__version__",
    "detection_loss",
    "find_candidates",
    "load_model",
    "measure",
    "normalise",
    "open_store",
    "predict_volume",
    "read_scan",
]


def __getattr__(name: str) -> Any:
    """Load a name of the public API (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nodule_det' has no attribute {name!r}")
    return getattr(import_module(f"nodule_det.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    """List the public API."""
    return sorted({*globals(), *__all__})
