"""Settings of ``python -m nodule_det.baseline``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class BaselineConfig:
    """Candidates of a plain blob detector, for scans of a store."""

    store: str = "stores/phantom"
    """Folder that ``python -m nodule_det.data`` wrote."""

    scans: str | None = None
    """CSV with a column ``seriesuid``: only these scans; by default all of the store."""

    out: str = "candidates.csv"
    """Where the candidates go: LUNA16's columns and ``diameter_mm``."""
