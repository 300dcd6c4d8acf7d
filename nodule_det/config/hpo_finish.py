"""Settings of ``python -m nodule_det.hpo.finish``: from a study to a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.crossval import Selection
from nodule_det.config.hpo import DispatcherConfig, RetryConfig, Stop, StudyWas, require_study
from nodule_det.errors import ConfigError

MAX_SEED = 999_999


@dataclass(kw_only=True)
class FinishConfig:
    """Cross-validate the best settings of a study, choose one, and write it as a model.

    The same command resumes after any interruption.
    """

    study: str = ""
    """Folder of the study."""

    out: str = ""
    """Output folder for the trainings, the results and the model; by default ``finish`` in the
    study."""

    settings: int = 3
    """Number of settings to retrain, those with the highest posterior mean.  The trial with the
    largest observed value is always added, so that the report can show how optimistic it was."""

    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds with which every setting is trained on every fold.  More seeds average out chance."""

    folds: list[int] = field(default_factory=list)
    """Folds to evaluate; empty evaluates all folds of the store."""

    selection: Selection = Selection.other
    """Which fold chooses the checkpoints: other or same, as in crossval."""

    workers: int = 1
    """Number of trainings that run at the same time."""

    bootstrap: int = 1000
    """Number of bootstrap resamples for the 95% CIs."""

    permutations: int = 1000
    """Number of random swaps of scans in the permutation tests of the differences."""

    exclude: list[int] = field(default_factory=list)
    """Numbers of trials that are not retrained, such as one whose training keeps failing."""

    factory: str = ""
    """The ``model.factory`` of the study, if its networks are not the built-in one.  It is code to
    run, so naming it in the study is not enough."""

    licence: str = ""
    """Licence of the model, written into ``model.json``."""

    study_was: StudyWas = StudyWas.in_place
    """Set once after the path of the study has changed: moved (the trainings of this command keep
    their jobs) or copied (the jobs belong to the original, and the copy starts its own)."""

    stop: Stop = Stop.never
    """jobs cancels the running jobs, waits until they have ended, and exits."""

    dry_run: bool = False
    """Print the next job script and submit nothing."""

    dispatcher: DispatcherConfig = field(default_factory=DispatcherConfig)
    retries: RetryConfig = field(default_factory=RetryConfig)

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("settings", self.settings, 1, 1000)
        require_range("workers", self.workers, 1, 10_000)
        require_range("bootstrap", self.bootstrap, 2, 1_000_000)
        require_range("permutations", self.permutations, 1, 1_000_000)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds={list(self.seeds)} must list one or more different seeds")
        for seed in self.seeds:
            require_range("seeds", seed, 0, MAX_SEED)
        for number in self.exclude:
            require_range("exclude", number, 1, 1_000_000_000)
        if len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"folds={list(self.folds)} lists a fold twice")
