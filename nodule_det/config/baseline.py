"""Settings of ``python -m nodule_det.baseline``."""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.checks import require_range


@dataclass(kw_only=True)
class BaselineConfig:
    """Candidates of a plain blob detector, for scans of a store."""

    store: str = "stores/phantom"
    """Folder that ``python -m nodule_det.data`` wrote."""

    scans: str | None = None
    """CSV with a column ``seriesuid``: only these scans; by default all of the store."""

    out: str = "candidates.csv"
    """Output file: LUNA16's columns and ``diameter_mm``."""

    workers: int = 0
    """Processes; 0 uses the processors of this job.  The result does not depend on it."""

    shared: bool = False
    """Let the umask decide who may read what is written; by default only its owner may."""

    def __post_init__(self) -> None:
        require_range("workers", self.workers, 0, 1024)
