"""Settings of ``python -m nodule_det.export``: a network for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from nodule_det.config.predict import named_checkpoints, require_networks
from nodule_det.errors import ConfigError


class Format(Enum):
    """What a network is written as."""

    torchscript = "torchscript"
    torch_export = "torch_export"
    onnx = "onnx"
    monai_bundle = "monai_bundle"


@dataclass(kw_only=True)
class ExportConfig:
    """Write a network for other tools, and compare it with the original."""

    checkpoint: Any = ""
    """``best.pt`` or ``last.pt`` of a training run.  A list is an ensemble, whose probabilities are
    averaged."""

    model: str = ""
    """A model folder written by crossval or hpo finish, instead of ``checkpoint``."""

    factory: str = ""
    """The ``model.factory`` that the checkpoint was trained with, if any.  Importing it runs its
    code, so it must be named here as well."""

    format: Format = Format.onnx
    """torchscript (``.ts``), torch_export (``.pt2``), onnx (``.onnx``): from HU to probability.
    monai_bundle (a folder): from a scan to candidates."""

    out: str = ""
    """File, or folder of a bundle, to write.  It must not exist."""

    scan: str = ""
    """A scan to compare the written network with the original on, prepared as ``predict`` does.  By
    default they are compared on noise only."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoint files, empty if ``model`` is set."""
        return named_checkpoints(self.checkpoint)

    def __post_init__(self) -> None:
        require_networks(self.checkpoint, self.model)
        if not self.out:
            raise ConfigError("out is not set; add out=PATH to the command")
        if self.scan and self.format is Format.monai_bundle:
            raise ConfigError(
                f"scan={self.scan} has no effect with format=monai_bundle, which writes no network "
                "of its own to compare; remove it"
            )
