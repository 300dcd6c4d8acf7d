"""Settings of ``python -m nodule_det.report``: one HTML page of a training run."""

from __future__ import annotations

from dataclasses import dataclass

from nodule_det.config.checks import require_range
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class ReportConfig:
    """A run folder -> one HTML page that opens without a server or network."""

    run: str = ""
    """Run folder of a training."""

    out: str = ""
    """HTML file; by default ``report.html`` in the run folder."""

    store: str = ""
    """Store of the scans, if it has moved since the training."""

    false_positives_per_scan: int = 5
    """False positives shown of each scan, those of the highest score."""

    window_low_hu: int = -1200
    """HU shown black."""

    window_high_hu: int = 400
    """HU shown white."""

    def __post_init__(self) -> None:
        if not self.run:
            raise ConfigError("run is not given; add run=FOLDER to the command")
        require_range("false_positives_per_scan", self.false_positives_per_scan, 0, 1000)
        if self.window_low_hu >= self.window_high_hu:
            raise ConfigError(
                f"window_low_hu={self.window_low_hu} must be below "
                f"window_high_hu={self.window_high_hu}"
            )
