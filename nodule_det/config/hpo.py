"""Settings of ``python -m nodule_det.hpo`` and its parts: one tuning study.

Settings of the trainings are below ``train``, under the names of the train command.  What is tuned
is in a file of ``conf/space``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.checks import require_range
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError

JOB_ID = re.compile(r"[A-Za-z0-9][\w.\[\]@:-]{0,199}", re.ASCII)
"""A valid job id.  Ids are used on command lines of qdel and scancel and in messages, so they have
no leading minus and no blanks."""


RESULT_KEY = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)
"""A valid key of a number in result.json."""


class DispatcherKind(Enum):
    """What runs the trainings."""

    local = "local"
    pbs = "pbs"
    slurm = "slurm"


class Strategy(Enum):
    """How the next point is chosen."""

    nei = "nei"
    ei_fantasies = "ei_fantasies"
    thompson = "thompson"
    ei = "ei"
    botorch = "botorch"
    random = "random"
    sobol = "sobol"


class Failures(Enum):
    """How the model uses trainings that ran out of memory or diverged."""

    model = "model"
    zero = "zero"


class Direction(Enum):
    """Which values of the objective are better."""

    maximize = "maximize"
    minimize = "minimize"


class Stop(Enum):
    """What to do with the jobs of an existing study."""

    never = "never"
    jobs = "jobs"


class StudyWas(Enum):
    """Whether a study is still in the folder where its driver last ran, or was moved or copied."""

    in_place = "in_place"
    moved = "moved"
    copied = "copied"


@dataclass(kw_only=True)
class DispatcherConfig:
    """Where the trainings run, and what a job requests there."""

    kind: DispatcherKind = DispatcherKind.local
    """local (processes of this machine), pbs (qsub, qstat, qdel) or slurm (sbatch, squeue)."""

    queue: str = ""
    """Queue (PBS) or partition (Slurm); empty uses the site's default."""

    select: str = "1:ncpus=1"
    """PBS select statement of one job."""

    walltime_s: float = 0.0
    """Wall-clock limit of a job.  The training saves a checkpoint before the limit and resumes in
    the next job.  0 requests no limit."""

    walltime_margin_s: float = 300.0
    """How long before ``walltime_s`` the training must have saved its checkpoint."""

    join_resources: bool = False
    """Put PBS resources into one ``-l`` option: Slurm's qsub wrapper uses only the last one."""

    submit_args: list[str] = field(default_factory=list)
    """Additional arguments of qsub or sbatch: project group, account, mail, GPUs."""

    setup: list[str] = field(default_factory=list)
    """Shell lines that a job runs first: ``module load ...``, ``source .../activate``."""

    environment: dict[str, str] = field(default_factory=dict)
    """Variables exported in a job."""

    container: str = ""
    """Prefix of the training command, such as ``apptainer exec --nv image.sif``."""

    python: str = ""
    """Python on the compute nodes; by default the one that runs the driver."""

    memory_gb: float = 0.0
    """Memory limit of a training: the memory of its GPU, or on a CPU that of its job (which you
    request with ``select`` or ``submit_args``).  0 means unknown: no trial is refused for it."""

    gpus: list[int] = field(default_factory=list)
    """local: GPUs to use, one per job.  If empty, jobs see the same GPUs as the driver."""

    cpus_per_job: int = 1
    """local: threads of a job (OMP_NUM_THREADS)."""

    processes_per_job: int = 1
    """Processes that share one training, each with a GPU of its own: as many as the job requests
    GPUs.  ``optim.batch_size`` must be divisible by it."""

    host_gone: bool = False
    """local: the machine that ran the jobs of this study no longer exists; resume them here."""

    poll_s: float = 30.0
    """Seconds between two polls of the batch system, each for all jobs together."""

    poll_details: bool = True
    """PBS: poll with ``qstat -f``, which reports why a job waits.  false uses plain qstat."""

    timeout_s: float = 60.0
    """Timeout of each command of the batch system."""

    grace_s: float = 60.0
    """How long a result may take to appear after its job is gone (network file systems)."""

    def __post_init__(self) -> None:
        require_range("dispatcher.walltime_s", self.walltime_s, 0, 1e8)
        require_range("dispatcher.walltime_margin_s", self.walltime_margin_s, 0, 1e6)
        require_range("dispatcher.memory_gb", self.memory_gb, 0, 1e6)
        require_range("dispatcher.cpus_per_job", self.cpus_per_job, 1, 1024)
        require_range("dispatcher.processes_per_job", self.processes_per_job, 1, 64)
        if self.processes_per_job > 1 and self.gpus:
            raise ConfigError(
                f"dispatcher.processes_per_job={self.processes_per_job} needs several GPUs per "
                f"job, but dispatcher.gpus={list(self.gpus)} gives each job one; remove one of them"
            )
        require_range("dispatcher.poll_s", self.poll_s, 0.01, 3600)
        require_range("dispatcher.timeout_s", self.timeout_s, 1, 3600)
        require_range("dispatcher.grace_s", self.grace_s, 0, 3600)
        if 0 < self.walltime_s <= self.walltime_margin_s:
            raise ConfigError(
                f"dispatcher.walltime_s={self.walltime_s:g} leaves no time to train with "
                f"dispatcher.walltime_margin_s={self.walltime_margin_s:g}; lower the margin"
            )
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ConfigError(f"dispatcher.environment.{name} is not a valid variable name")
        if self.gpus and self.kind is not DispatcherKind.local:
            raise ConfigError(
                f"dispatcher.gpus={list(self.gpus)} is for the local dispatcher; request GPUs from "
                f"{self.kind.value} with dispatcher.select or dispatcher.submit_args"
            )


@dataclass(kw_only=True)
class RetryConfig:
    """How often a trial is restarted, by reason.  Divergence and lack of memory: never."""

    lost: int = 3
    """The job vanished without a result, as in a node crash, or its disk was full."""

    killed: int = 1
    """Killed by a signal that the driver did not send."""

    error: int = 0
    """The training ended with an error, which usually occurs again."""

    stopped: int = 100
    """Stopped at the wall-clock limit with a checkpoint, from which it resumes."""

    def __post_init__(self) -> None:
        for name in ("lost", "killed", "error", "stopped"):
            require_range(f"retries.{name}", getattr(self, name), 0, 10_000)


@dataclass(kw_only=True)
class ForecastConfig:
    """Refuse trainings that are predicted to exceed the memory or time limit of a job."""

    refuse: bool = True
    """Fail such a trial before its job is submitted.  Has no effect without a limit, or with your
    own ``command``."""

    margin: float = 1.5
    """Factor by which the prediction must exceed the limit, to allow for prediction errors."""

    hours: float = 0.0
    """Limit of node hours per trial.  0 uses ``dispatcher.walltime_s`` times the number of jobs
    that ``retries.stopped`` allows."""

    def __post_init__(self) -> None:
        require_range("forecast.margin", self.margin, 1, 100)
        require_range("forecast.hours", self.hours, 0, 1e6)


@dataclass(kw_only=True)
class AcquisitionConfig:
    """How the next point is chosen."""

    strategy: Strategy = Strategy.nei
    """nei (noisy expected improvement, running trials integrated out), ei_fantasies (expected
    improvement over fantasised outcomes of the running trials), thompson (a posterior sample),
    ei (ignores running trials, as the poster did).  These four use a BoTorch model.  Without a
    model: random, sobol.  botorch is the former name of nei, kept for older studies."""

    seed: int = 0
    """Random seed.  Two studies with equal results choose the same trial n."""

    first: int = 6
    """Number of outcomes before the model is used.  Until then points are drawn from the priors,
    away from failures.  Queued and first points count."""

    failures: Failures = Failures.model
    """model learns where trainings run out of memory or diverge, and avoids those regions.  zero
    scores such a training as 0, as the poster did."""

    draw_scales: bool = True
    """Average over posterior draws of the model's hyperparameters.  false uses only the most
    probable ones."""

    running_curves: bool = True
    """Use the validations of running trainings, extrapolated to the last epoch."""

    def __post_init__(self) -> None:
        require_range("acquisition.seed", self.seed, 0, 2**31 - 1)
        require_range("acquisition.first", self.first, 1, 10_000)


MAX_KEPT = 1_000_000


@dataclass(kw_only=True)
class KeepConfig:
    """Which files of finished trials are kept."""

    best: int = 10
    """Number of trials, those with the best values, whose best.pt is kept.  It is removed from all
    others.  last.pt is removed once its trial has finished."""

    pack: bool = True
    """Pack the logs, tables and figures of a finished trial into one file, files.zip, because file
    systems limit the number of files."""

    def __post_init__(self) -> None:
        require_range("keep.best", self.best, 0, MAX_KEPT)


@dataclass(kw_only=True)
class ConstraintConfig:
    """Limit of a number that a training reports beside its objective."""

    name: str = ""
    """Key of the number in result.json.  Dots descend into nested objects."""

    max: float | None = None
    """Largest permitted number."""

    min: float | None = None
    """Smallest permitted number."""

    def __post_init__(self) -> None:
        if not RESULT_KEY.fullmatch(self.name):
            raise ConfigError(
                f"constraints: name={self.name} must be the name of one number in result.json"
            )
        if self.max is None and self.min is None:
            raise ConfigError(f"constraints: {self.name} has no limit; add max or min")
        for limit in (self.max, self.min):
            if limit is not None and not math.isfinite(limit):
                raise ConfigError(f"constraints: {self.name} has the limit {limit}; use a number")
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ConfigError(
                f"constraints: {self.name} has min={self.min:g} above max={self.max:g}, which no "
                "training can meet"
            )


@dataclass(kw_only=True)
class HpoConfig:
    """Tune the settings of a training: create a study, or resume it with the same command."""

    study: str = ""
    """Folder of the study: its journal, and a folder for each trial."""

    workers: int = 1
    """Number of jobs at a time (M)."""

    trials: int = 100
    """Trials in total, including those of earlier sessions."""

    node_hours: float = 0.0
    """Start no new trials once the jobs have used this many node hours.  0: no limit."""

    search_space: str = "nomura"
    """Name of a file in conf/space, or path of a YAML file of your own."""

    study_was: StudyWas = StudyWas.in_place
    """Set once after the path of a study has changed: moved (it keeps its jobs) or copied (the
    jobs belong to the original, and the copy starts its own)."""

    stop: Stop = Stop.never
    """jobs cancels the jobs of the study, waits until they are gone, and exits."""

    dry_run: bool = False
    """Print the next job script and submit nothing."""

    command: list[str] = field(default_factory=list)
    """The command to tune as a list of arguments, such as [python,my.py].  By default ``python -m
    nodule_det.train``.  It receives its parameters as NAME=VALUE, and run_dir=FOLDER, where it must
    write result.json."""

    objective: str = "pauc"
    """Key in result.json of the value to optimise.  Dots descend into nested objects.  Its standard
    error is read from the same key with the suffix ``_se``, if present."""

    direction: Direction = Direction.maximize
    """Whether a larger or a smaller value of the objective is better."""

    constraints: list[ConstraintConfig] = field(default_factory=list)
    """Limits of other numbers in result.json, such as [{name: seconds_per_scan, max: 30}].  A trial
    that violates one is complete but infeasible: it is never the best, and the model learns to
    avoid its neighbourhood."""

    keep: KeepConfig = field(default_factory=KeepConfig)
    acquisition: AcquisitionConfig = field(default_factory=AcquisitionConfig)
    dispatcher: DispatcherConfig = field(default_factory=DispatcherConfig)
    retries: RetryConfig = field(default_factory=RetryConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require_study(self.study)
        require_range("workers", self.workers, 1, 10_000)
        require_range("trials", self.trials, 1, 1_000_000)
        require_range("node_hours", self.node_hours, 0, 1e9)
        self._check_objective()
        if self.train.dry_run:
            raise ConfigError("train.dry_run=true cannot be set: use dry_run=true")
        if self.train.run_dir is not None:
            raise ConfigError(
                f"train.run_dir={self.train.run_dir} cannot be set: each trial has its own "
                f"folder in study={self.study}"
            )
        processes = self.dispatcher.processes_per_job
        if self.command and processes > 1:
            raise ConfigError(
                f"dispatcher.processes_per_job={processes} is only for python -m "
                f"nodule_det.train; let command={list(self.command)} start its processes itself, "
                "for example with torchrun"
            )
        gpus = self.dispatcher.gpus
        if gpus and self.workers > len(gpus):
            raise ConfigError(
                f"workers={self.workers} is more than the number of GPUs in "
                f"dispatcher.gpus={list(gpus)}; list a GPU twice to let two jobs share it"
            )

    def _check_objective(self) -> None:
        if not RESULT_KEY.fullmatch(self.objective):
            raise ConfigError(
                f"objective={self.objective} must be the name of one number in result.json; to "
                "optimise several, let the program combine them into one, or limit all but one "
                "with constraints"
            )
        names = [constraint.name for constraint in self.constraints]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"constraints={names} name a number twice; set its max and min in one entry"
            )
        if self.objective != "pauc" and self.acquisition.failures is Failures.zero:
            raise ConfigError(
                f"acquisition.failures=zero is for objective=pauc, whose worst value is 0; use "
                f"acquisition.failures=model with objective={self.objective}"
            )


def require_study(study: str) -> None:
    """Refuse a missing path, and one that cannot be printed."""
    if not study:
        raise ConfigError("study is missing; add study=FOLDER to the command")
    if not study.isprintable():
        raise ConfigError(f"study={study!r} contains a control character; use another folder")


_PBS = re.compile(r"[^\w./+@~ ()=-]", re.ASCII)
"""OpenPBS splits ``-v`` at commas, takes the text before a colon in ``-o`` for a host, refuses
quotes, doubles backslashes, and accepts only ASCII."""
_PBS_OVER_SLURM = re.compile(r"[^\w./+@~-]", re.ASCII)
"""Slurm's qsub lets a shell read the path."""
_SLURM = re.compile(r"[%\\]")
"""sbatch replaces ``%j`` and the like in ``--output``."""


def require_job_path(study: str, site: DispatcherConfig) -> None:
    """Refuse the absolute path of a study if its batch system would mangle it on a command line."""
    if site.kind is DispatcherKind.local:
        return
    pbs = _PBS_OVER_SLURM if site.join_resources else _PBS
    unsafe, command = (pbs, "qsub") if site.kind is DispatcherKind.pbs else (_SLURM, "sbatch")
    if found := unsafe.search(study):
        raise ConfigError(
            f"study={study} contains {found[0]!r}, which {command} mangles; use another folder, or "
            "a link to it by another path"
        )
