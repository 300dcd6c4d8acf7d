"""Settings of ``python -m nodule_det.crossval``: one training per fold, pooled into one FROC."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.checks import require_range
from nodule_det.config.hpo import DispatcherConfig, RetryConfig, Stop, StudyWas
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError


class Selection(Enum):
    """Which scans choose the checkpoint that is evaluated on a fold."""

    other = "other"
    same = "same"


@dataclass(kw_only=True)
class CrossvalConfig:
    """Train every fold, pool the out-of-fold candidates, and evaluate them as one data set.

    The same command resumes after any interruption and retries folds that failed.
    """

    out: str = ""
    """Output folder for the trainings, the pooled tables and the figures."""

    folds: list[int] = field(default_factory=list)
    """Folds to evaluate; empty evaluates all folds of the store."""

    selection: Selection = Selection.other
    """other: the next fold with lesions chooses the checkpoint, and fold k is evaluated once
    (LUNA16's protocol).
    same: fold k itself chooses it, which trains on more scans but gives optimistic figures."""

    workers: int = 1
    """Number of trainings that run at the same time."""

    bootstrap: int = 1000
    """Number of bootstrap resamples for the 95% CI of the pooled figures."""

    study_was: StudyWas = StudyWas.in_place
    """Set once after the path of ``out`` has changed: moved (the trainings keep their jobs) or
    copied (the jobs belong to the original, and the copy starts its own)."""

    stop: Stop = Stop.never
    """jobs cancels the running jobs, waits until they have ended, and exits."""

    dry_run: bool = False
    """Print the next job script and submit nothing."""

    dispatcher: DispatcherConfig = field(default_factory=DispatcherConfig)
    retries: RetryConfig = field(default_factory=RetryConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("out is not set; add out=FOLDER to the command")
        require_range("workers", self.workers, 1, 10_000)
        require_range("bootstrap", self.bootstrap, 2, 1_000_000)
        for name, usual in (("fold", 0), ("test_fold", None)):
            value = getattr(self.train, name)
            if value != usual:
                raise ConfigError(
                    f"train.{name}={value} cannot be set: crossval sets it for each training; use "
                    "folds=[...] to choose folds"
                )
        if self.train.dry_run:
            raise ConfigError("train.dry_run=true cannot be set: use dry_run=true")
        if self.train.run_dir is not None:
            raise ConfigError(
                f"train.run_dir={self.train.run_dir} cannot be set: each fold has its own folder "
                f"in out={self.out}"
            )
        if len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"folds={list(self.folds)} lists a fold twice")
