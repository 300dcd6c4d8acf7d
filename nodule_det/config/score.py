"""Settings of ``python -m nodule_det.score``: a model on scans of a store."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.networks import NetworkConfig, require_views
from nodule_det.config.train import CandidateConfig, Device, Precision
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class SessionConfig:
    """How long one session may take."""

    wall_s: float = 0.0
    """Wall-clock limit of this session (one job) in seconds.  Before it, the command exits with
    code 85 after a whole scan; the same command resumes.  0 sets no limit."""

    def __post_init__(self) -> None:
        require_range("limits.wall_s", self.wall_s, 0, 1e9)


@dataclass(kw_only=True)
class ScoreConfig(NetworkConfig):
    """A model and the test set of a store (or one of its folds) -> FROC figures.

    Scores every scan once.  The same command resumes after any interruption.
    """

    views: int = 1
    """Views of each scan whose probabilities are averaged: 1, its 8 mirrors, or all 48 symmetries
    of a cube.  Time grows in proportion."""

    store: str = "stores/phantom"
    """Folder that ``python -m nodule_det.data`` wrote."""

    fold: int | None = None
    """Score the scans of this fold instead of the test set."""

    run_dir: str = "scored"
    """Folder of the results: tables, figures and pictures, named as in a run folder."""

    bootstrap: int = 1000
    """Resamples of the patients for the 95% CIs."""

    seed: int = 0
    """Seed of the resamples."""

    device: Device = Device.auto
    """auto, cpu or cuda."""

    precision: Precision = Precision.auto
    """auto, fp32, bf16 or fp16."""

    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    limits: SessionConfig = field(default_factory=SessionConfig)

    shared: bool = False
    """Let the umask decide who may read what is written; by default only its owner may."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_views(self.views)
        if not self.run_dir:
            raise ConfigError("run_dir is not set; add run_dir=FOLDER to the command")
        if self.fold is not None:
            require_range("fold", self.fold, 0, 10_000)
        require_range("bootstrap", self.bootstrap, 100, 1_000_000)
        require_range("seed", self.seed, 0, 2**31 - 1)
