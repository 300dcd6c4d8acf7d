"""Settings of ``nodule-det report``: one HTML page about a detector."""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.checks import require_range
from nodule_det.config.hits import HitBy, check_hits
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class ReportConfig:
    """A training run, or the CSV files of any detector -> one HTML page that needs no server.

    Set ``run``, or else ``candidates``, ``annotations``, ``scans`` and one of ``images`` and
    ``store``.
    """

    run: str = ""
    """Run folder of a training, where the report finds its files and its store."""

    candidates: str = ""
    """CSV of a detector: seriesuid, coordX, coordY, coordZ in world mm, probability (or score)."""

    annotations: str = ""
    """CSV of the lesions: seriesuid, coordX, coordY, coordZ, diameter_mm."""

    scans: str = ""
    """CSV of all evaluated scans, including those without lesions."""

    excluded: str = ""
    """CSV of findings that are neither lesion nor false positive (annotations_excluded)."""

    hit: HitBy = HitBy.centre
    """When a candidate hits a lesion: centre, iou or mask, as in ``nodule-det evaluate``."""

    iou: float = 0.1
    """Smallest intersection over union of a hit with hit=iou."""

    masks: str = ""
    """Masks of the lesions: a store, or a folder with a label image UID.nii.gz of each scan."""

    candidate_masks: str = ""
    """Masks of the candidates, for hit=iou together with masks."""

    images: str = ""
    """Folder of the scans: DICOM series, MetaImage or NIfTI files, named by their seriesuid."""

    store: str = ""
    """Store of the scans; by default the store of ``run``."""

    out: str = ""
    """HTML file; by default ``report.html``, in the run folder if there is one."""

    false_positives_per_scan: int = 5
    """Number of false positives shown per scan, those with the highest scores."""

    bootstrap: int = 1000
    """Number of resamples of the scans or patients for the 95% CIs."""

    seed: int = 0
    """Random seed of the resamples."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    def __post_init__(self) -> None:
        tables = {name: getattr(self, name) for name in ("candidates", "annotations", "scans")}
        if not self.run:
            for name, path in tables.items():
                if not path:
                    raise ConfigError(
                        f"{name} is not set: set run=FOLDER, or {name}=FILE.csv for any detector"
                    )
            if bool(self.images) == bool(self.store):
                raise ConfigError(
                    f"images={self.images} and store={self.store}: set exactly one of them, the "
                    "folder of the scans or their store"
                )
        elif any(tables.values()) or self.excluded or self.images:
            raise ConfigError(
                f"run={self.run} has its own candidates, annotations, scans, excluded and images; "
                "set run or these, not both"
            )
        check_hits(self.hit, self.iou, self.masks, self.candidate_masks)
        require_range("false_positives_per_scan", self.false_positives_per_scan, 0, 1000)
        require_range("bootstrap", self.bootstrap, 2, 1_000_000)
        require_range("seed", self.seed, 0, 2**31 - 1)
