"""Settings of ``python -m nodule_det.data``: where scans come from, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.checks import require_range, require_step
from nodule_det.errors import ConfigError


class Layout(Enum):
    """How a data set lies on disk; ``auto`` tells by the files that it finds."""

    auto = "auto"
    luna16 = "luna16"
    lidc = "lidc"
    msd = "msd"
    folder = "folder"


class FileFormat(Enum):
    """File format in which phantom scans are written."""

    mhd = "mhd"
    nifti = "nifti"
    dicom = "dicom"


@dataclass(kw_only=True)
class PhantomConfig:
    """Synthetic chest CTs with known nodules (``source=phantom``)."""

    n_scans: int = 100
    """Scans to make."""

    seed: int = 0
    """Seed of the first scan; scan i is made from seed + i, so a larger set extends a smaller."""

    size_vox: list[int] = field(default_factory=lambda: [128, 256, 256])
    """(z, y, x) voxels of a scan."""

    nodules_per_scan: float = 0.0
    """Mean of a Poisson number of nodules per scan; 0 draws as many as LIDC-IDRI has (mean 1.3)."""

    format: FileFormat = FileFormat.mhd
    """mhd, nifti or dicom."""

    folds: int = 5
    """Subset folders that the scans are dealt to in turn: the layout's own folds."""

    def __post_init__(self) -> None:
        require_range("phantom.n_scans", self.n_scans, 1, 1_000_000)
        require_range("phantom.seed", self.seed, 0, 2**31 - 1)
        require_range("phantom.nodules_per_scan", self.nodules_per_scan, 0, 20)
        require_range("phantom.folds", self.folds, 2, 1000)
        if len(self.size_vox) != 3 or min(self.size_vox) < 32:
            raise ConfigError(
                f"phantom.size_vox={list(self.size_vox)} needs three values (z, y, x) of 32 or more"
            )


@dataclass(kw_only=True)
class LidcConfig:
    """How four readers' marks become one truth (``layout=lidc``)."""

    min_readers: int = 3
    """A nodule is a lesion if at least this many of four readers marked it; others are excluded."""

    min_diameter_mm: float = 3.0
    """Smaller nodules are excluded findings."""

    def __post_init__(self) -> None:
        require_step("lidc.min_readers", self.min_readers, 1, 4, 1)
        require_range("lidc.min_diameter_mm", self.min_diameter_mm, 0, 100)


@dataclass(kw_only=True)
class StoreConfig:
    """The resampled store.  A store made with other settings is refused, not mixed."""

    spacing_mm: float = 1.0
    """Edge of a voxel of the store, the same along all axes."""

    margin_mm: float = 12.0
    """Rim kept around the box of the lungs."""

    folds: int = 5
    """Folds of the split by patient, where the layout brings none of its own."""

    split_seed: int = 0
    """Seed of that split."""

    def __post_init__(self) -> None:
        require_range("store.spacing_mm", self.spacing_mm, 0.25, 5)
        require_range("store.margin_mm", self.margin_mm, 0, 100)
        require_range("store.folds", self.folds, 2, 1000)
        require_range("store.split_seed", self.split_seed, 0, 2**31 - 1)


@dataclass(kw_only=True)
class VerifyConfig:
    """Read all files of a store and compare them with their checksums."""

    store: str = "stores/phantom"
    """Folder of the store."""


@dataclass(kw_only=True)
class DataConfig:
    """Ingest: scans of any layout -> resampled store."""

    source: str = "phantom"
    """Folder of the data set, or the word ``phantom``."""

    out: str = "stores/phantom"
    """Folder of the store; an unfinished one is gone on with."""

    layout: Layout = Layout.auto
    """auto, luna16, lidc, msd or folder."""

    annotations: str | None = None
    """CSV of lesions, where the layout does not bring it (``layout=folder``)."""

    excluded: str | None = None
    """CSV of findings that are neither lesion nor background."""

    masks: str | None = None
    """Folder of lung masks, one file per scan of the same name; wins over our own."""

    partial: bool = False
    """Take a data set of which only some scans are on disk; otherwise a listed scan that is
    missing is an error."""

    workers: int = 0
    """Processes; 0 takes the processors this job may use."""

    overwrite: bool = False
    """Make the store anew where one of other settings stands."""

    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    lidc: LidcConfig = field(default_factory=LidcConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        require_range("workers", self.workers, 0, 1024)
