"""Settings of ``python -m nodule_det.baseline``."""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.checks import require_range


@dataclass(kw_only=True)
class BaselineConfig:
    """Find candidates in the scans of a store with a plain blob detector."""

    store: str = "stores/phantom"
    """Folder that ``python -m nodule_det.data`` wrote."""

    scans: str | None = None
    """CSV with a column ``seriesuid``: the scans to search.  By default all scans of the store."""

    out: str = "candidates.csv"
    """Output file: LUNA16's columns and ``diameter_mm``."""

    workers: int = 0
    """Number of processes; 0 uses all processors of this job.  Does not change the result."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    def __post_init__(self) -> None:
        require_range("workers", self.workers, 0, 1024)
