"""Settings of ``python -m nodule_det.export``: a network for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from nodule_det.config.networks import NetworkConfig
from nodule_det.errors import ConfigError


class Format(Enum):
    """What a network is written as."""

    torchscript = "torchscript"
    torch_export = "torch_export"
    onnx = "onnx"
    monai_bundle = "monai_bundle"


@dataclass(kw_only=True)
class ExportConfig(NetworkConfig):
    """Write a network for other tools, and compare it with the original."""

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise ConfigError("out is not set; add out=PATH to the command")
        if self.scan and self.format is Format.monai_bundle:
            raise ConfigError(
                f"scan={self.scan} has no effect with format=monai_bundle, which writes no network "
                "of its own to compare; remove it"
            )
