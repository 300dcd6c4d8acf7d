"""Settings of ``python -m nodule_det.evaluate``: the FROC figures of a list of candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from nodule_det.config.checks import require_range
from nodule_det.config.hits import HitBy, check_hits
from nodule_det.errors import ConfigError


class IntervalKind(Enum):
    """Method of the 95% CIs."""

    gamma = "gamma"
    logit = "logit"
    bca = "bca"
    percentile = "percentile"


class Compat(Enum):
    """Which reference implementation to reproduce."""

    none = "none"
    luna16 = "luna16"


@dataclass(kw_only=True)
class EvaluateConfig:
    """Candidates and annotations -> FROC figures with 95% CIs, as JSON, CSV and plots."""

    candidates: str = ""
    """CSV of a detector: seriesuid, coordX, coordY, coordZ in world mm, probability (or score)."""

    annotations: str = ""
    """CSV of the lesions: seriesuid, coordX, coordY, coordZ, diameter_mm (LUNA16's file as is)."""

    scans: str = ""
    """CSV of all evaluated scans, including those without lesions.  A header line is optional."""

    excluded: str = ""
    """CSV of findings that are neither lesion nor false positive (annotations_excluded)."""

    patients: str = ""
    """CSV with the columns seriesuid and patient, or the name of a column of ``scans``: all scans
    of a patient are resampled together.  A column ``patient`` of ``scans`` is used by default."""

    out: str = "evaluation"
    """Folder for froc.json, froc_curve.csv and froc.png, .svg, .pdf."""

    upper: float = 5.0
    """Upper limit of the partial area, in false positives per scan."""

    bootstrap: int = 1000
    """Number of resamples of the scans or patients for the 95% CIs."""

    interval: IntervalKind = IntervalKind.gamma
    """Method of the 95% CIs: gamma (reaches its nominal coverage), or logit, bca or percentile as
    in papers."""

    seed: int = 0
    """Random seed of the resamples."""

    hit: HitBy = HitBy.centre
    """When a candidate hits a lesion: centre (nearer to it than half its diameter), iou (their
    boxes, or their masks, overlap), mask (the candidate lies in the lesion's mask)."""

    iou: float = 0.1
    """Smallest intersection over union of a hit with hit=iou.  Boxes have the columns sizeX, sizeY,
    sizeZ in mm, or are cubes with the edge diameter_mm."""

    masks: str = ""
    """Masks of the lesions: a store, or a folder with a label image UID.nii.gz of each scan."""

    candidate_masks: str = ""
    """Masks of the candidates, for hit=iou together with masks."""

    drop_unknown_findings: bool = False
    """Ignore annotations of scans that are not listed, such as those of other folds.  By default
    they are an error."""

    drop_unknown_candidates: bool = False
    """Ignore candidates of scans that are not listed.  By default they are an error, since they
    often mean a wrong file."""

    drop_nan: bool = False
    """Ignore candidates whose score is NaN.  By default they are an error."""

    compat: Compat = Compat.none
    """luna16 reproduces the challenge's script, which evaluates at most 100 candidates per scan."""

    strata: str = ""
    """Group lesions by ``diameter`` or a column of the annotations, with figures for each group."""

    compare: str = ""
    """CSV of another detector to compare on the same scans."""

    permutations: int = 1000
    """Number of random swaps of scans (or patients) in the permutation test of the difference."""

    detect: float = 0.03
    """Difference between detectors for which the required number of scans is reported."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    def __post_init__(self) -> None:
        for name in ("candidates", "annotations", "scans"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is missing: add {name}=FILE.csv to the command")
        if not (math.isfinite(self.upper) and self.upper > 0):
            raise ConfigError(f"upper={self.upper} must be a positive number of false positives")
        check_hits(self.hit, self.iou, self.masks, self.candidate_masks)
        if self.hit is not HitBy.centre and self.compat is Compat.luna16:
            raise ConfigError(f"compat=luna16 decides by the centre: drop hit={self.hit.value}")
        if self.candidate_masks and self.compare:
            raise ConfigError(
                "candidate_masks are of one detector: evaluate both on their own, or compare them "
                "with hit=mask"
            )
        require_range("bootstrap", self.bootstrap, 2, 1_000_000)
        require_range("permutations", self.permutations, 1, 1_000_000)
        if not (math.isfinite(self.detect) and self.detect > 0):
            raise ConfigError(f"detect={self.detect} must be a positive difference, such as 0.03")
        require_range("seed", self.seed, 0, 2**31 - 1)
