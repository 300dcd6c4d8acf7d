"""Settings of ``python -m nodule_det.data``: where scans come from, and how they are stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.checks import require_range, require_step
from nodule_det.errors import ConfigError


class Layout(Enum):
    """Layout of a data set on disk.  ``auto`` detects it from the files."""

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


class PhantomShapes(Enum):
    """Shapes of the phantom's nodules."""

    ball = "ball"
    lidc = "lidc"
    even = "even"


class PhantomScanners(Enum):
    """Scanners and patients of the phantom."""

    standard = "standard"
    varied = "varied"


@dataclass(kw_only=True)
class PhantomConfig:
    """Synthetic chest CTs with known nodules (``source=phantom``)."""

    n_scans: int = 100
    """Number of scans."""

    seed: int = 0
    """Seed of the first scan; scan i is made from seed + i, so a larger set extends a smaller."""

    size_vox: list[int] = field(default_factory=lambda: [128, 256, 256])
    """(z, y, x) voxels of a scan."""

    nodules_per_scan: float = 0.0
    """Mean number of nodules per scan (Poisson).  0 draws as many as LIDC-IDRI has (mean 1.3)."""

    format: FileFormat = FileFormat.mhd
    """mhd, nifti or dicom."""

    shapes: PhantomShapes = PhantomShapes.ball
    """ball: bumpy ellipsoids.  lidc: lobulated, elongated, ill-defined and cavitary nodules, as
    often as LIDC's readers rate them so.  even: each rating equally often, with a fifth part-solid
    and a fifth ground-glass, for training."""

    scanners: PhantomScanners = PhantomScanners.standard
    """standard: soft to standard kernels at usual doses.  varied: sharp kernels, low doses, thick
    slices, inexact HU, denser lungs and more vessels as well, for training."""

    folds: int = 5
    """Number of subset folders, which become the folds.  Scans are assigned to them in turn."""

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
    """How the marks of four readers become one reference standard (``layout=lidc``)."""

    min_readers: int = 3
    """A nodule counts as a lesion if at least this many of four readers marked it.  The others
    become excluded findings."""

    min_diameter_mm: float = 3.0
    """Smaller nodules are excluded findings."""

    def __post_init__(self) -> None:
        require_step("lidc.min_readers", self.min_readers, 1, 4, 1)
        require_range("lidc.min_diameter_mm", self.min_diameter_mm, 0, 100)


@dataclass(kw_only=True)
class StoreConfig:
    """The resampled store.  A store that was made with other settings is refused."""

    spacing_mm: float = 1.0
    """Edge of a voxel of the store, the same along all axes."""

    margin_mm: float = 12.0
    """Margin kept around the bounding box of the lungs."""

    folds: int = 5
    """Number of folds of the split by patient, for layouts that do not define folds."""

    split_seed: int = 0
    """Seed of that split."""

    test_fraction: float = 0.0
    """Fraction of the patients held out as a test set, which neither train nor hpo uses."""

    test_scans: str | None = None
    """CSV with the column seriesuid: the patients of these scans become the test set."""

    def __post_init__(self) -> None:
        require_range("store.spacing_mm", self.spacing_mm, 0.25, 5)
        require_range("store.margin_mm", self.margin_mm, 0, 100)
        require_range("store.folds", self.folds, 2, 1000)
        require_range("store.split_seed", self.split_seed, 0, 2**31 - 1)
        require_range("store.test_fraction", self.test_fraction, 0, 0.9)
        if self.test_fraction and self.test_scans:
            raise ConfigError(
                f"store.test_fraction={self.test_fraction} and store.test_scans={self.test_scans} "
                "both choose the test set; set one of them"
            )


@dataclass(kw_only=True)
class VerifyConfig:
    """Read all files of a store and compare them with their checksums."""

    store: str = "stores/phantom"
    """Folder of the store."""


@dataclass(kw_only=True)
class NamesConfig:
    """Map the scans in a table of results back to their original names."""

    names: str = ""
    """The private table beside an anonymised store, STORE.names.csv."""

    table: str = ""
    """CSV with the column seriesuid, such as candidates.csv."""

    out: str = ""
    """Output CSV, readable only by its owner."""

    def __post_init__(self) -> None:
        for name in ("names", "table", "out"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is not set; add {name}=FILE to the command")


@dataclass(kw_only=True)
class DataConfig:
    """Ingest: scans of any layout -> resampled store."""

    source: str = "phantom"
    """Folder of the data set, or ``phantom`` for synthetic scans."""

    out: str = "stores/phantom"
    """Folder of the store.  An incomplete store is resumed."""

    layout: Layout = Layout.auto
    """auto, luna16, lidc, msd or folder."""

    annotations: str | None = None
    """CSV of lesions, for layouts that do not include one (``layout=folder``)."""

    excluded: str | None = None
    """CSV of excluded findings, which are neither lesion nor background."""

    masks: str | None = None
    """Folder of lung masks, one file per scan with the same name; overrides the built-in lung
    segmentation."""

    partial: bool = False
    """Accept a data set of which only some scans are on disk.  By default a listed scan that is
    missing is an error."""

    workers: int = 0
    """Number of processes.  0 uses all processors of this job."""

    scan_timeout_s: float = 1800.0
    """Time limit for reading and preparing one scan, in seconds.  A scan that takes longer fails,
    and the others continue."""

    overwrite: bool = False
    """Replace an existing store, for instance one that was made with other settings."""

    patients: str | None = None
    """CSV with the columns seriesuid and patient: which scans belong to the same patient.
    Overrides PatientID.  Needed where PatientID is empty or the same for all scans, or the format
    does not have it (NIfTI)."""

    secret: str | None = None
    """File with the secret from which patient keys are computed.  Set it to that of another store
    if both have scans of the same patients.  By default a new file beside the store, OUT.secret."""

    anonymise: bool = False
    """Replace the names and UIDs of scans with random UIDs in the store and everything made from
    it.  OUT.names.csv beside the store, readable only by its owner, maps them back."""

    columns: list[str] = field(default_factory=list)
    """Additional columns of the annotation tables to store.  By default only the columns that
    describe a lesion (texture, spiculation, malignancy ...) are stored."""

    migrate: bool = False
    """Convert a store of an earlier version: replace its plain hashes of PatientID, which can be
    reversed, with keys computed from a secret."""

    shared: bool = False
    """Set file permissions from the umask.  By default only the owner can read the store."""

    phantom: PhantomConfig = field(default_factory=PhantomConfig)
    lidc: LidcConfig = field(default_factory=LidcConfig)
    store: StoreConfig = field(default_factory=StoreConfig)

    def __post_init__(self) -> None:
        require_range("workers", self.workers, 0, 1024)
        require_range("scan_timeout_s", self.scan_timeout_s, 1, 1_000_000)
