"""Settings of ``python -m nodule_det.train``: the 11 tuned parameters, and what stays fixed.

The 11 (Nomura et al.; the search space of ``conf/space/nomura.yaml`` uses these names):
``patches.size_vox  model.depth  model.filters  model.kernel_size  model.residual
optim.batch_size  optim.lr  optim.beta1  augment.copies  augment.shift_vox  augment.rotate``
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.checks import require_choice, require_range, require_step
from nodule_det.errors import ConfigError


class Device(Enum):
    """Where to compute: ``auto`` takes the GPU where there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Arithmetic of the forward pass.

    ``auto`` takes bf16 where the device has units for it, fp16 with loss scaling on older GPUs,
    fp32 elsewhere.
    """

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(kw_only=True)
class PatchConfig:
    """Which cubes of a scan the network is trained on."""

    size_vox: int = 32
    """W, edge of the cubic patch in voxels of the store: 32 or 64."""

    per_epoch: int = 512
    """Patches drawn in an epoch, before augmented copies are added."""

    positive_fraction: float = 0.5
    """Share of patches around a lesion; lesions take turns, each is seen equally often."""

    vessel_fraction: float = 0.25
    """Share of patches around dense lung voxels: vessels, the hard negatives.

    The rest is drawn from anywhere in the lungs.  A lesion near by is a target there as well."""

    def __post_init__(self) -> None:
        require_choice("patches.size_vox", self.size_vox, (32, 64))
        require_range("patches.per_epoch", self.per_epoch, 1, 10_000_000)
        require_range("patches.positive_fraction", self.positive_fraction, 0, 1)
        require_range("patches.vessel_fraction", self.vessel_fraction, 0, 1)
        if self.positive_fraction + self.vessel_fraction > 1:
            raise ConfigError(
                f"patches.positive_fraction={self.positive_fraction} and "
                f"patches.vessel_fraction={self.vessel_fraction} sum to more than 1; lower one"
            )


@dataclass(kw_only=True)
class ModelConfig:
    """The 3D U-Net, in MONAI's conventions."""

    depth: int = 3
    """Levels of resolution, 2-4; each level after the first halves the resolution."""

    filters: int = 16
    """Filters of the first level, 4-32 in steps of 2; doubled at each level below."""

    kernel_size: int = 3
    """Edge of the convolution kernels in voxels: 3 or 5."""

    residual: bool = True
    """Residual units in place of plain convolutions."""

    def __post_init__(self) -> None:
        require_choice("model.depth", self.depth, (2, 3, 4))
        require_step("model.filters", self.filters, 4, 32, 2)
        require_choice("model.kernel_size", self.kernel_size, (3, 5))


@dataclass(kw_only=True)
class OptimConfig:
    """Adam."""

    batch_size: int = 8
    """Patches (augmented copies included) per optimiser step, 2-16 in steps of 2."""

    lr: float = 1e-3
    """Largest learning rate of the schedule, 1e-8 to 1e-2."""

    beta1: float = 0.9
    """Decay of Adam's first moment, 0.9 to 0.99."""

    def __post_init__(self) -> None:
        require_step("optim.batch_size", self.batch_size, 2, 16, 2)
        require_range("optim.lr", self.lr, 1e-8, 1e-2)
        require_range("optim.beta1", self.beta1, 0.9, 0.99)


@dataclass(kw_only=True)
class AugmentConfig:
    """What makes the augmented copies differ from the patch that was drawn."""

    copies: int = 1
    """Augmented copies of each drawn patch, 0-4; each is one more patch in the epoch."""

    shift_vox: int = 8
    """Largest random shift along each axis, in voxels, 0 to half of ``patches.size_vox``; smaller
    where it would push the lesion that the patch was drawn around out of the patch."""

    rotate: bool = True
    """Rotate copies by 0/90/180/270 degrees in the axial, coronal and sagittal planes."""

    def __post_init__(self) -> None:
        require_range("augment.copies", self.copies, 0, 4)
        require_range("augment.shift_vox", self.shift_vox, 0, 32)


@dataclass(kw_only=True)
class ValidationConfig:
    """When and on what a run is validated, and when it stops for lack of progress."""

    every_epochs: int = 5
    """Epochs between validations; the last epoch is always validated."""

    patience: int = 0
    """Stop after this many validations without a better pAUC; 0 never stops early."""

    max_scans: int = 0
    """Validate on at most this many scans of the fold, drawn by seed; 0 takes all."""

    bootstrap: int = 1000
    """Resamples of the cases for the interval and the standard error."""

    def __post_init__(self) -> None:
        require_range("validation.every_epochs", self.every_epochs, 1, 1_000_000)
        require_range("validation.patience", self.patience, 0, 1_000_000)
        require_range("validation.max_scans", self.max_scans, 0, 1_000_000)
        require_range("validation.bootstrap", self.bootstrap, 100, 1_000_000)


@dataclass(kw_only=True)
class CandidateConfig:
    """How a probability volume becomes candidates."""

    threshold: float = 0.02
    """Peaks below this probability are dropped."""

    merge_mm: float = 6.0
    """Peaks closer than this are one candidate, the higher one."""

    max_per_scan: int = 200
    """Candidates kept per scan, the best ones; FROC up to 8 false positives needs far fewer."""

    def __post_init__(self) -> None:
        require_range("candidates.threshold", self.threshold, 0, 1)
        require_range("candidates.merge_mm", self.merge_mm, 0, 100)
        require_range("candidates.max_per_scan", self.max_per_scan, 1, 1_000_000)


@dataclass(kw_only=True)
class LimitConfig:
    """When a run ends, or pauses to be started again."""

    epochs: int = 40
    """Epochs of training."""

    wall_s: float = 0.0
    """Wall-clock seconds of this session; shortly before, the run saves a checkpoint and leaves
    with exit code 85, to be started again by the same command.  0 sets no limit."""

    checkpoint_s: float = 300.0
    """Seconds between checkpoints, beside the one after each validation."""

    def __post_init__(self) -> None:
        require_range("limits.epochs", self.epochs, 1, 1_000_000)
        require_range("limits.wall_s", self.wall_s, 0, 1e9)
        require_range("limits.checkpoint_s", self.checkpoint_s, 1, 1e9)


@dataclass(kw_only=True)
class TrainConfig:
    """One training run: store -> patches -> network -> candidates of the held-out fold -> FROC."""

    store: str = "stores/phantom"
    """Folder that ``python -m nodule_det.data`` wrote."""

    fold: int = 0
    """Fold held out for validation; the others are trained on."""

    test_fold: int | None = None
    """A second fold held out: neither trained nor validated on, and evaluated once at the end with
    the best checkpoint.  The results are in ``test/`` of the run folder."""

    run_dir: str | None = None
    """Folder of this run; by default a new one below ``runs/``.  Given again, the run resumes."""

    seed: int = 0
    """Seed of weights, patches and augmentation."""

    device: Device = Device.auto
    """auto, cpu or cuda."""

    precision: Precision = Precision.auto
    """auto, fp32, bf16 or fp16."""

    fast: bool = False
    """Smoke run of the whole chain: 2 steps, 2 scans, a tiny network, in under a minute."""

    patches: PatchConfig = field(default_factory=PatchConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)

    def __post_init__(self) -> None:
        require_range("fold", self.fold, 0, 10_000)
        if self.test_fold is not None:
            require_range("test_fold", self.test_fold, 0, 10_000)
        require_range("seed", self.seed, 0, 2**31 - 1)
        if self.augment.shift_vox > self.patches.size_vox // 2:
            raise ConfigError(
                f"augment.shift_vox={self.augment.shift_vox} is more than half of "
                f"patches.size_vox={self.patches.size_vox}: a lesion at the centre would leave "
                f"its patch; use 0 to {self.patches.size_vox // 2}"
            )
        coarsest_vox = self.patches.size_vox >> (self.model.depth - 1)
        if coarsest_vox < self.model.kernel_size - 1:
            raise ConfigError(
                f"patches.size_vox={self.patches.size_vox} with model.depth={self.model.depth} "
                f"leaves {coarsest_vox} voxels at the coarsest level, fewer than "
                f"model.kernel_size={self.model.kernel_size} can see; lower the depth"
            )
