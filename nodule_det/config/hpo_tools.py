"""Settings of the commands beside ``python -m nodule_det.hpo``: init, status, show, add, cancel,
export, prune, report and simulate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodule_det.config.checks import require_range
from nodule_det.config.hpo import AcquisitionConfig, Strategy, require_study
from nodule_det.errors import ConfigError


@dataclass(kw_only=True)
class InitConfig:
    """Write the files to start your own study: a search space and a command to run."""

    out: str = ""
    """New folder for the files."""

    example: bool = False
    """Also write a small program in plain Python, to see how any program is tuned.  false prepares
    a study of nodule_det.train on a workstation."""

    def __post_init__(self) -> None:
        if not self.out:
            raise ConfigError("out is missing; add out=FOLDER to the command")


@dataclass(kw_only=True)
class PruneConfig:
    """Free disk space: remove unneeded checkpoints and pack small files of finished trials.

    Without ``remove=true`` it only lists what it would do.
    """

    study: str = ""
    """Folder of the study."""

    remove: bool = False
    """Remove and pack the files.  false only reports the space that would be freed."""

    keep_best: int = 10
    """Number of trials, those with the best values, whose best.pt is kept."""

    pack: bool = True
    """Pack the remaining small files of a finished trial (logs, tables, figures) into files.zip."""

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("keep_best", self.keep_best, 0, 1_000_000)


@dataclass(kw_only=True)
class StatusConfig:
    """Show the state of a study.  Works at any time, also while the driver runs."""

    study: str = ""
    """Folder of the study."""

    def __post_init__(self) -> None:
        require_study(self.study)


@dataclass(kw_only=True)
class ShowConfig:
    """Show one trial: its parameters, its jobs, and its command line to copy."""

    study: str = ""
    """Folder of the study."""

    trial: int = 0
    """Number of the trial; 0 shows the best one."""

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("trial", self.trial, 0, 1_000_000)


@dataclass(kw_only=True)
class AddConfig:
    """Add points to the queue of a study, or import the results of an earlier study."""

    study: str = ""
    """Folder of the study, which must exist."""

    points: str = ""
    """YAML file with a list of points, each a mapping of parameter names to values."""

    results: str = ""
    """Folder of an earlier study, whose finished trials are imported, each once."""

    other_trainings: bool = False
    """Import results even if settings that are not tuned differ."""

    def __post_init__(self) -> None:
        require_study(self.study)
        if bool(self.points) == bool(self.results):
            raise ConfigError("set either points=FILE.yaml or results=STUDY_FOLDER")


@dataclass(kw_only=True)
class CancelConfig:
    """Cancel one trial: end its job, never retry it, and ignore its results."""

    study: str = ""
    """Folder of the study."""

    trial: int = 0
    """Number of the trial, which must be pending."""

    def __post_init__(self) -> None:
        require_study(self.study)
        if not self.trial:
            raise ConfigError("trial is missing; add trial=NUMBER to the command")
        require_range("trial", self.trial, 1, 1_000_000)


@dataclass(kw_only=True)
class ExportConfig:
    """Export the trials of a study as a CSV file, or as an Optuna study for its dashboard."""

    study: str = ""
    """Folder of the study."""

    csv: str = ""
    """CSV file to write; by default ``trials.csv`` in the study."""

    optuna: str = ""
    """Optuna journal file to write (extra ``[dashboard]``).  To view it: optuna-dashboard FILE."""

    def __post_init__(self) -> None:
        require_study(self.study)


@dataclass(kw_only=True)
class StudyReportConfig:
    """Write the report of a study: one HTML page that needs no network, and its figures as PNGs.

    Works at any time, also while the driver runs.
    """

    study: str = ""
    """Folder of the study."""

    out: str = ""
    """Folder for ``report.html`` and the PNGs; by default ``report`` in the study."""

    seed: int = 0
    """Random seed for the estimates of importance."""

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("seed", self.seed, 0, 2**31 - 1)


@dataclass(kw_only=True)
class SimulateConfig:
    """Repeat the poster's experiment on simulated trainings, without GPU or data."""

    out: str = "simulated"
    """Folder for the figures, their numbers, and runs.csv, from which an interrupted command
    resumes."""

    strategies: list[Strategy] = field(
        default_factory=lambda: [Strategy.nei, Strategy.ei, Strategy.random]
    )
    """Strategies to compare, each with every number of workers."""

    workers: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Numbers of concurrent jobs to compare."""

    repetitions: int = 3
    """Number of repetitions, each with its own function, first points, noise and node crashes."""

    jobs: int = 100
    """Trials of a study."""

    function: int = 0
    """Number of the first function.  Repetition r uses the r-th after it."""

    processes: int = 1
    """Number of studies simulated in parallel.  With more than one, set OMP_NUM_THREADS=1."""

    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)

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
                f"acquisition.strategy={name} has no effect here, where several are compared; "
                f"use strategies=[{name}]"
            )
        for workers in self.workers:
            require_range("workers", workers, 1, 10_000)
        require_range("repetitions", self.repetitions, 1, 10_000)
        require_range("jobs", self.jobs, 1, 100_000)
        require_range("function", self.function, 0, 1_000_000)
        require_range("processes", self.processes, 1, 1024)
