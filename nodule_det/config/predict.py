"""Settings of ``python -m nodule_det.predict``: candidates of scans without annotations."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.networks import NetworkConfig, require_views
from nodule_det.config.train import CandidateConfig, Device, Precision
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class PredictConfig(NetworkConfig):
    """Scans -> candidates.csv, and a 3D Slicer Markups file for each scan."""

    views: int = 1
    """Number of views of each scan whose probabilities are averaged: 1, 8 (mirrored along every
    axis) or 48 (all symmetries of a cube).  Run time grows in proportion."""

    input: str = ""
    """A scan (.mhd, .nii, .nii.gz, .nrrd, a DICOM folder) or a folder of scans."""

    out: str = "predictions"
    """Folder for ``candidates.csv`` and the Markups files.  An incomplete one is resumed."""

    masks: str | None = None
    """Folder of lung masks, one file per scan with the same name; overrides the built-in lung
    segmentation."""

    markups_max: int = 20
    """Largest number of candidates in a Markups file, the best ones."""

    sr: bool = False
    """Also write a DICOM structured report (TID 1500) for each DICOM series: UID.sr.dcm, with the
    ``markups_max`` best candidates.  It contains the identifiers of its patient and study."""

    seg: bool = False
    """Also write a DICOM segmentation for each DICOM series: UID.seg.dcm, a sphere per candidate.
    It contains the identifiers of its patient and study."""

    device: Device = Device.auto
    """auto, cpu or cuda."""

    precision: Precision = Precision.auto
    """auto, fp32, bf16 or fp16."""

    candidates: CandidateConfig = field(default_factory=CandidateConfig)

    max_fp_per_scan: float = 12.0
    """With ``model``: drop candidates below the score at which the model had so many false
    positives per scan when it was calibrated.  FROC needs 8.  0 keeps all candidates."""

    scan_timeout_s: float = 1800.0
    """Time limit for reading and preparing one scan, in seconds.  A scan that takes longer fails,
    and the others continue."""

    anonymise: bool = False
    """Replace the names and UIDs of scans by random UIDs in all output.  OUT.names.csv beside the
    folder, readable by its owner only, maps them back (``data names``) and has the reason of each
    scan that failed."""

    secret: str | None = None
    """With ``anonymise``: file of the secret from which the UIDs are computed.  With a store's
    secret, a scan gets the same UID as there.  By default a new file beside ``out``, OUT.secret."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    def __post_init__(self) -> None:
        if not self.input:
            raise ConfigError("input is not set; add input=PATH to the command")
        super().__post_init__()
        require_views(self.views)
        require_range("markups_max", self.markups_max, 0, 100_000)
        require_range("max_fp_per_scan", self.max_fp_per_scan, 0, 1000)
        require_range("scan_timeout_s", self.scan_timeout_s, 1, 1_000_000)
        if self.anonymise and (self.sr or self.seg):
            asked = "sr" if self.sr else "seg"
            raise ConfigError(
                f"{asked}=true writes the identifiers of patient and study, which anonymise=true "
                "removes; set one of them"
            )
        if self.secret and not self.anonymise:
            raise ConfigError(f"secret={self.secret} has no effect without anonymise=true")
