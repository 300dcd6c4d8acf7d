"""Checkpoints: plain tensors and plain values in one file, whole or absent.

    model, meta, training state ──save_checkpoint()──▶ .pt ──load_checkpoint()──▶ the same

Nothing in a checkpoint needs code to be read: ``torch.load(weights_only=True)`` opens it, so a
file from elsewhere cannot run anything.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nodule_det.config.data import StoreConfig
from nodule_det.config.train import ModelConfig
from nodule_det.errors import CheckpointError, UnwrittenError
from nodule_det.files import replacing
from nodule_det.model import ReceptiveField, build_model, receptive_field
from nodule_det.origin import UNKNOWN, ScanRecord
from nodule_det.untrusted import open_regular

FORMAT = 1

UNREADABLE = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip
"""Exceptions that zip, pickle and torch raise on invalid data."""

ADDED_SETTINGS = {"full_resolution", "factory", "kwargs"}
"""Settings of the network that older checkpoints lack; their defaults apply."""

META_TYPES: dict[str, type | tuple[type, ...]] = {
    "spacing_mm": (int, float),
    "margin_mm": (int, float),
    "version": str,
    "step": int,
}


@dataclass(frozen=True)
class Meta:
    """Description of a network, stored with its weights.

    Attributes:
        model: Architecture.
        spacing_mm: Edge of the voxels that it was trained on.
        margin_mm: Margin around the lungs in the store.
        version: Version of this package.
        step: Number of optimiser steps.
        measured: Receptive field of a network of the user's own; None for the built-in one.
        scans: Scans that it was trained and selected on; unknown for earlier versions.
    """

    model: ModelConfig
    spacing_mm: float
    margin_mm: float
    version: str
    step: int = 0
    measured: ReceptiveField | None = None
    scans: ScanRecord = UNKNOWN

    @property
    def receptive_field(self) -> ReceptiveField:
        """What the network's output depends on, measured or computed."""
        return self.measured or receptive_field(self.model)


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file."""

    meta: Meta
    weights: dict[str, torch.Tensor]
    training: dict[str, Any] | None = None
    """Optimiser, scaler, position and best figures, for resuming a run; absent in ``best.pt``."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        UnwrittenError: If it cannot be written; an existing file is left unchanged.
    """
    meta = asdict(checkpoint.meta)
    del meta["scans"]  # earlier versions refuse a meta with names that they do not know
    content = {
        "format": FORMAT,
        "meta": meta,
        "scans": checkpoint.meta.scans.as_dict(),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch's writer knows no OSError
        raise UnwrittenError(
            f"checkpoint {path} cannot be written ({_first_line(error)}); check that the disk is "
            "not full and that you have permission. The same command resumes from the last "
            "complete checkpoint"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged, or not a checkpoint of this package.
    """
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path} is a folder; use a best.pt or last.pt in it")
    try:
        content = _read_whole(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint {path} does not exist; use a best.pt or last.pt of a run folder"
        ) from None
    except UNREADABLE as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({_first_line(error, path)}); the file is damaged "
            "or not a checkpoint: use another one of the run"
        ) from error
    try:
        return _understood(content, path)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else _first_line(error)
        raise CheckpointError(
            f"{path} is not a usable checkpoint of nodule_det ({what}); use a best.pt or last.pt "
            "of a run folder"
        ) from error


def _first_line(error: Exception, path: Path | None = None) -> str:
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return line.removeprefix(f"{path} cannot be read: ")[:120]


def _understood(content: Any, path: Path) -> Checkpoint:
    """Check the content of a file and return it as a checkpoint."""
    _require(content, dict, "it")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {content['format']}, this version reads {FORMAT}; use "
            "the version of nodule_det that wrote it, or a newer one"
        )
    values, weights, training = content["meta"], content["weights"], content["training"]
    _require(values, dict, "meta")
    _require(values["model"], dict, "meta.model")
    _require(weights, dict, "weights")
    for name, tensor in weights.items():
        _require(name, str, "a name in weights")
        _require(tensor, torch.Tensor, f"weights.{name}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"weights.{name} has values that are not finite")
    if training is not None:
        _require(training, dict, "training")
    for name, kind in META_TYPES.items():
        _require(values[name], kind, f"meta.{name}")
    if values["step"] < 0:
        raise ValueError(f"meta.step is {values['step']}")
    for setting in fields(ModelConfig):
        if setting.name in values["model"] or setting.name not in ADDED_SETTINGS:
            kind = dict if setting.name == "kwargs" else type(setting.default)
            _require(values["model"][setting.name], kind, f"meta.{setting.name}")
    parts = {"model": ModelConfig(**values["model"]), "measured": _field(values.get("measured"))}
    scans = ScanRecord.from_dict(content["scans"]) if "scans" in content else UNKNOWN
    meta = Meta(**{**values, **parts, "scans": scans})
    if bool(meta.model.factory) is (meta.measured is None):
        raise ValueError("a receptive field is stored for networks of model.factory, and only then")
    # apply the limits of a store: a spacing of 0 would need unlimited memory
    StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)
    return Checkpoint(meta, weights, training)


def _field(values: dict[str, Any] | None) -> ReceptiveField | None:
    return None if values is None else ReceptiveField(**values)


def _require(value: object, kind: type | tuple[type, ...], name: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is of type {type(value).__name__}")


def _read_whole(path: Path) -> Any:
    """Read what torch saved, after verifying its checksums, which ``torch.load`` skips."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise zipfile.BadZipFile("it is compressed, which torch's files are not")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} differs from its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Load the weights into a network.

    Raises:
        CheckpointError: If they belong to another architecture.
    """
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in checkpoint.weights.items()}
    if wanted != given:
        odd = sorted(set(wanted.items()) ^ set(given.items()))[0]
        raise CheckpointError(
            f"checkpoint {path} is of another architecture ({asdict(checkpoint.meta.model)}): "
            f"{len(set(wanted.items()) ^ set(given.items()))} tensors differ, the first is "
            f"{odd[0]}; use the checkpoint of a run with these settings"
        )
    model.load_state_dict(checkpoint.weights)


def _require_trusted(named: str, factory: str, path: Path) -> None:
    """Refuse to import a factory that only the checkpoint names."""
    if named and named != factory:
        trusted = f"factory={factory} was set" if factory else "which runs code outside nodule_det"
        raise CheckpointError(
            f"checkpoint {path} needs model.factory={named}, {trusted}; if you trust that code, "
            f"add factory={named} to the command"
        )


def load_model(path: Path, factory: str = "") -> tuple[nn.Module, Meta]:
    """Build the network of a checkpoint, ready for inference on the CPU.

    Args:
        path: Checkpoint.
        factory: The ``model.factory`` that this checkpoint may name.  Importing it runs its code,
            so the caller has to name it; a checkpoint cannot.

    Raises:
        CheckpointError: If the checkpoint is missing or damaged, or names another factory.
        ConfigError: If the factory cannot be imported or does not return a network.
    """
    checkpoint = load_checkpoint(path)
    _require_trusted(checkpoint.meta.model.factory, factory, path)
    model = build_model(checkpoint.meta.model)
    load_weights(model, checkpoint, path)
    return model.eval(), checkpoint.meta
