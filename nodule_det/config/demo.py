"""Settings of ``python -m nodule_det.demo``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class DemoConfig:
    """Phantom scans -> store -> training -> FROC, beside a blob detector, in about ten minutes."""

    dir: str = "demo"
    """Folder for the scans, the store and the run."""

    seed: int = 0
    """Seed of the training; the scans stay the same."""

    data: list[str] = field(
        default_factory=lambda: [
            "phantom.n_scans=80",
            "phantom.nodules_per_scan=2",
            "phantom.folds=2",
        ]
    )
    """Settings passed to ``nodule_det.data``."""

    train: list[str] = field(default_factory=lambda: ["experiment=demo"])
    """Settings passed to ``nodule_det.train``."""

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""
