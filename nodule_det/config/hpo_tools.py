"""Settings of the commands beside ``python -m nodule_det.hpo``: status, show, add, cancel, export,
report and simulate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.hpo import AcquisitionConfig, StoppingConfig, Strategy, require_study
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class StatusConfig:
    """Show where a study stands; works at any time, also beside a running driver."""

    study: str = ""
    """Folder of the study."""

    def __post_init__(self) -> None:
        require_study(self.study)


@dataclass(kw_only=True)
class ShowConfig:
    """Show one trial: its values, its jobs, and its command line, to be pasted."""

    study: str = ""
    """Folder of the study."""

    trial: int = 0
    """Number of the trial; 0 shows the best one."""

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("trial", self.trial, 0, 1_000_000)


@dataclass(kw_only=True)
class AddConfig:
    """Put points into the queue of a study, or take over the results of an earlier study."""

    study: str = ""
    """Folder of the study, which must exist."""

    points: str = ""
    """YAML file with a list of points; each maps parameter names to values."""

    results: str = ""
    """Folder of an earlier study whose finished trials are taken over as knowledge, each once."""

    other_trainings: bool = False
    """Take results also of trainings whose settings beside the tuned ones were others."""

    def __post_init__(self) -> None:
        require_study(self.study)
        if bool(self.points) == bool(self.results):
            raise ConfigError("give either points=FILE.yaml or results=STUDY_FOLDER")


@dataclass(kw_only=True)
class CancelConfig:
    """Cancel one trial: end its job, do not try its point again, and learn nothing from it."""

    study: str = ""
    """Folder of the study."""

    trial: int = 0
    """Number of the trial, which must not be over yet."""

    def __post_init__(self) -> None:
        require_study(self.study)
        if not self.trial:
            raise ConfigError("trial is not given; add trial=NUMBER to the command")
        require_range("trial", self.trial, 1, 1_000_000)


@dataclass(kw_only=True)
class ExportConfig:
    """Write the trials of a study as a CSV file, or as an Optuna study for its dashboard."""

    study: str = ""
    """Folder of the study."""

    csv: str = ""
    """CSV file to write; by default ``trials.csv`` in the study."""

    optuna: str = ""
    """Optuna journal file to write (extra ``[dashboard]``); then: ``optuna-dashboard FILE``."""

    def __post_init__(self) -> None:
        require_study(self.study)


@dataclass(kw_only=True)
class StudyReportConfig:
    """Draw a study: one HTML page that needs neither network nor server, and its figures as PNGs.

    Works at any time, also beside a running driver; reads the journal alone.
    """

    study: str = ""
    """Folder of the study."""

    out: str = ""
    """Folder for ``report.html`` and the PNGs; by default ``report`` in the study."""

    seed: int = 0
    """Of the points and models that importance is estimated by."""

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("seed", self.seed, 0, 2**31 - 1)


@dataclass(kw_only=True)
class SimulateConfig:
    """Repeat the poster's experiment on simulated trainings: no GPU, no data, virtual time."""

    out: str = "simulated"
    """Folder for the figures, their numbers, and ``runs.csv``, from which an interrupted command
    goes on."""

    strategies: list[Strategy] = field(
        default_factory=lambda: [Strategy.nei, Strategy.ei, Strategy.random]
    )
    """Each is run with every number of workers."""

    workers: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Numbers of jobs at a time."""

    repetitions: int = 3
    """Each on a function of its own, with other first points, noise and crashed nodes."""

    jobs: int = 100
    """Trials of a study."""

    function: int = 0
    """Number of the first function; repetition r takes the r-th after it."""

    processes: int = 1
    """Studies simulated at a time; set OMP_NUM_THREADS=1 beside more than one."""

    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("out is empty; name a folder for the figures")
        if not self.strategies or not self.workers:
            raise ConfigError(
                f"strategies={self.strategies} and workers={self.workers} need at least one each"
            )
        if self.acquisition.strategy is not AcquisitionConfig().strategy:
            name = self.acquisition.strategy.value
            raise ConfigError(
                f"acquisition.strategy={name} means nothing here, where several are compared: "
                f"give strategies=[{name}]"
            )
        for workers in self.workers:
            require_range("workers", workers, 1, 10_000)
        require_range("repetitions", self.repetitions, 1, 10_000)
        require_range("jobs", self.jobs, 1, 100_000)
        require_range("function", self.function, 0, 1_000_000)
        require_range("processes", self.processes, 1, 1024)
