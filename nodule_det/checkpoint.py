"""Checkpoints: plain tensors and plain values in one file, whole or absent.

    model, meta, training state ──save_checkpoint()──▶ .pt ──load_checkpoint()──▶ the same

Nothing in a checkpoint needs code to be read: ``torch.load(weights_only=True)`` opens it, so a
file from elsewhere cannot run anything.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.errors import CheckpointError, ConfigError
from nodule_det.model import build_model
from nodule_det.runs import replacing

FORMAT = 1


@dataclass(frozen=True)
class Meta:
    """What a network was made for; travels with its weights.

    Attributes:
        model: Architecture.
        spacing_mm: Edge of the voxels that it was trained on.
        margin_mm: Rim that the store keeps around the lungs.
        version: Version of this package.
        step: Optimiser steps behind the weights.
    """

    model: ModelConfig
    spacing_mm: float
    margin_mm: float
    version: str
    step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds."""

    meta: Meta
    weights: dict[str, torch.Tensor]
    training: dict[str, Any] | None = None
    """Optimiser, scaler, position and best figures: what a resumed run needs, absent in
    ``best.pt``."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all."""
    content = {
        "format": FORMAT,
        "meta": asdict(checkpoint.meta),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        CheckpointError: If the file is missing, damaged, or not a checkpoint of this package.
    """
    try:
        content = _read_whole(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint {path} does not exist; give a best.pt or last.pt of a run folder"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile,
            pickle.UnpicklingError) as error:  # fmt: skip
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({first_line[:120]}); the file is damaged or no "
            "checkpoint: take another one of the run"
        ) from error
    try:
        if not isinstance(content, dict):
            raise TypeError(f"it holds one {type(content).__name__}")
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {content['format']}, this version reads {FORMAT}"
            )
        values = dict(content["meta"])
        meta = Meta(**{**values, "model": ModelConfig(**values["model"])})
        return Checkpoint(meta, content["weights"], content["training"])
    except (TypeError, KeyError, ConfigError) as error:
        raise CheckpointError(f"{path} is no checkpoint of nodule_det ({error})") from error


def _read_whole(path: Path) -> Any:
    """Read what torch saved, after comparing it with its checksums, which ``torch.load`` skips."""
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} differs from its checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Put the weights into a network.

    Raises:
        CheckpointError: If they belong to another architecture.
    """
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    given = {name: tuple(t.shape) for name, t in checkpoint.weights.items()}
    if wanted != given:
        odd = sorted(set(wanted.items()) ^ set(given.items()))[0]
        raise CheckpointError(
            f"checkpoint {path} is of another architecture ({asdict(checkpoint.meta.model)}): "
            f"{len(set(wanted.items()) ^ set(given.items()))} tensors differ, the first is {odd[0]}"
        )
    model.load_state_dict(checkpoint.weights)


def load_model(path: Path) -> tuple[nn.Module, Meta]:
    """Build the network of a checkpoint, ready for inference on the CPU."""
    checkpoint = load_checkpoint(path)
    model = build_model(checkpoint.meta.model)
    load_weights(model, checkpoint, path)
    return model.eval(), checkpoint.meta
