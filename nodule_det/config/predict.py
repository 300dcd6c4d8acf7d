"""Settings of ``python -m nodule_det.predict``: candidates of scans without annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nodule_det.config.checks import require_range
from nodule_det.config.train import CandidateConfig, Device, Precision
from nodule_det.errors import ConfigError

VIEWS = (1, 8, 48)


@dataclass(kw_only=True)
class PredictConfig:
    """Scans -> candidates.csv, and a 3D Slicer Markups file for each scan."""

    checkpoint: Any = ""
    """``best.pt`` or ``last.pt`` of a training run.  A list is an ensemble, whose probabilities are
    averaged."""

    model: str = ""
    """A model folder written by crossval or hpo finish, instead of ``checkpoint``.  ``builtin`` is
    the model that comes with the package, trained on phantoms only."""

    views: int = 1
    """Number of views of each scan whose probabilities are averaged: 1, 8 (mirrored along every
    axis) or 48 (all symmetries of a cube).  Run time grows in proportion."""

    factory: str = ""
    """The ``model.factory`` that the checkpoint was trained with, if any.
    Importing it runs its code, so it must be named here as well."""

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

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The checkpoint files, empty if ``model`` is set."""
        return named_checkpoints(self.checkpoint)

    def __post_init__(self) -> None:
        if not self.input:
            raise ConfigError("input is not set; add input=PATH to the command")
        require_networks(self.checkpoint, self.model)
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


def named_checkpoints(checkpoint: Any) -> tuple[str, ...]:
    """Return the paths in a setting that holds one path or a list of them."""
    named = checkpoint if isinstance(checkpoint, list) else [checkpoint]
    return tuple(path for path in named if path)


def require_networks(checkpoint: Any, model: str) -> None:
    """Refuse settings that name no network, two kinds of networks, or one twice."""
    if bool(checkpoint) == bool(model):
        given = "both are" if model else "neither is"
        raise ConfigError(
            f"checkpoint=FILE or model=FOLDER selects the network, but {given} set; set one"
        )
    paths = checkpoint if isinstance(checkpoint, list) else [checkpoint]
    if not all(isinstance(path, str) for path in paths):
        raise ConfigError(f"checkpoint={checkpoint} must be a path or a list of paths")
    if len(set(paths)) < len(paths):
        raise ConfigError(f"checkpoint={checkpoint} names a file twice")


def require_views(views: int) -> None:
    """Refuse a number of views that is not a group of symmetries."""
    if views not in VIEWS:
        raise ConfigError(f"views={views} must be one of {', '.join(map(str, VIEWS))}")
