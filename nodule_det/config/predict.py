"""Settings of ``python -m nodule_det.predict``: candidates of scans without annotation."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.train import CandidateConfig, Device, Precision
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class PredictConfig:
    """Scans -> candidates.csv, and a 3D Slicer Markups file for each scan."""

    checkpoint: str = ""
    """A ``best.pt`` or ``last.pt`` of a training run."""

    input: str = ""
    """A scan (.mhd, .nii, .nii.gz, a DICOM folder) or a folder of scans."""

    out: str = "predictions"
    """Folder for ``candidates.csv`` and the Markups files; an unfinished one is gone on with."""

    masks: str | None = None
    """Folder of lung masks, one file per scan of the same name; wins over our own."""

    markups_max: int = 20
    """Candidates in a Markups file, the best ones."""

    device: Device = Device.auto
    """auto, cpu or cuda."""

    precision: Precision = Precision.auto
    """auto, fp32, bf16 or fp16."""

    candidates: CandidateConfig = field(default_factory=CandidateConfig)

    def __post_init__(self) -> None:
        for name in ("checkpoint", "input"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is not given; add {name}=PATH to the command")
        require_range("markups_max", self.markups_max, 0, 100_000)
