"""Settings of ``python -m nodule_det.train``.

Eleven of them are the hyper-parameters of Nomura et al., whose ranges are in
``conf/space/nomura.yaml``.  The ranges here are what the code supports:
``patches.size_vox  model.depth  model.filters  model.kernel_size  model.residual
optim.batch_size  optim.lr  optim.beta1  augment.copies  augment.shift_vox  augment.rotate``
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from nodule_det.config.checks import require_choice, require_range, require_step
from nodule_det.errors import ConfigError


class Device(Enum):
    """Where to compute: ``auto`` uses a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Arithmetic of the forward pass.

    ``auto`` uses bf16 where the device supports it in hardware, fp16 with loss scaling on older
    GPUs, fp32 elsewhere.
    """

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class TrackerKind(Enum):
    """A tool that shows the figures of trainings, beside ``metrics.jsonl``."""

    none = "none"
    tensorboard = "tensorboard"
    mlflow = "mlflow"


class Optimizer(Enum):
    """Optimisation algorithm."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"


@dataclass(kw_only=True)
class PatchConfig:
    """Which cubes of a scan the network is trained on."""

    size_vox: int = 32
    """W, edge of the cubic patch in voxels of the store: an even number from 16 to 512 that can be
    halved as often as ``model.depth`` requires."""

    per_epoch: int = 512
    """Patches drawn per epoch, not counting augmented copies."""

    positive_fraction: float = 0.5
    """Fraction of patches around a lesion.  Lesions take turns, so each is seen equally often."""

    vessel_fraction: float = 0.25
    """Fraction of patches around dense lung voxels: vessels, the hard negatives.

    The rest is drawn from anywhere in the lungs.  A nearby lesion is a target there as well."""

    def __post_init__(self) -> None:
        require_step("patches.size_vox", self.size_vox, 16, 512, 2)
        require_range("patches.per_epoch", self.per_epoch, 1, 10_000_000)
        require_range("patches.positive_fraction", self.positive_fraction, 0, 1)
        require_range("patches.vessel_fraction", self.vessel_fraction, 0, 1)
        if self.positive_fraction + self.vessel_fraction > 1:
            raise ConfigError(
                f"patches.positive_fraction={self.positive_fraction} and "
                f"patches.vessel_fraction={self.vessel_fraction} sum to more than 1; lower one"
            )


FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


@dataclass(kw_only=True)
class ModelConfig:
    """The network: the built-in 3D U-Net in MONAI's conventions, or your own."""

    depth: int = 3
    """Levels of the network, 2-6.  Each level but the last halves the resolution."""

    filters: int = 16
    """Filters of the first level, 1-1024; doubled at each level below."""

    kernel_size: int = 3
    """Edge of the convolution kernels in voxels: 3 or 5."""

    residual: bool = True
    """Residual units in place of plain convolutions."""

    full_resolution: bool = False
    """Compute the first level at full resolution, as nnU-Net does, instead of at half, as MONAI's
    UNet does.  About eight times the work and memory of a level-one voxel."""

    factory: str = ""
    """Import path of a callable that returns your own network, such as
    ``monai.networks.nets.SegResNet``: a ``torch.nn.Module`` from (n, 1, z, y, x) to logits of the
    same shape, or a detector (``docs/model.md``).  It is called with ``model.kwargs``, and with
    these settings if it has a parameter named ``model``.  The other settings of ``model`` are for
    the built-in network."""

    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``model.factory``, such as ``{spatial_dims: 3, init_filters: 8}``."""

    def __post_init__(self) -> None:
        if self.factory and not FACTORY.fullmatch(self.factory):
            raise ConfigError(
                f"model.factory={self.factory} is not an import path; use PACKAGE.MODULE.NAME"
            )
        if self.kwargs and not self.factory:
            raise ConfigError("model.kwargs is set without model.factory; set both or neither")
        require_range("model.depth", self.depth, 2, 6)
        require_range("model.filters", self.filters, 1, 1024)
        require_choice("model.kernel_size", self.kernel_size, (3, 5))

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of the first convolution of each level but the last, 1 or 2."""
        return (1 if self.full_resolution else 2, *(2,) * (self.depth - 2))


@dataclass(kw_only=True)
class OptimConfig:
    """The optimiser."""

    kind: Optimizer = Optimizer.adam
    """adam, adamw (decoupled weight decay) or sgd (Nesterov momentum)."""

    batch_size: int = 8
    """Patches (augmented copies included) per optimiser step, 1-4096."""

    lr: float = 1e-3
    """Peak learning rate, 1e-8 to 1."""

    beta1: float = 0.9
    """Decay of Adam's first moment, 0 to 0.999; the momentum of SGD."""

    weight_decay: float = 0.0
    """Weight decay, 0 to 1."""

    def __post_init__(self) -> None:
        require_range("optim.batch_size", self.batch_size, 1, 4096)
        require_range("optim.lr", self.lr, 1e-8, 1)
        require_range("optim.beta1", self.beta1, 0, 0.999)
        require_range("optim.weight_decay", self.weight_decay, 0, 1)


@dataclass(kw_only=True)
class AugmentConfig:
    """How augmented copies differ from the drawn patch."""

    copies: int = 1
    """Number of augmented copies of each drawn patch, 0-64.  Each adds a patch to the epoch."""

    shift_vox: int = 8
    """Largest random shift along each axis, in voxels, 0 to half of ``patches.size_vox``.  Smaller
    where the shift would push the patch's own lesion out of it."""

    rotate: bool = True
    """Rotate copies by 0/90/180/270 degrees in the axial, coronal and sagittal planes."""

    mirror: bool = False
    """Mirror half of the copies."""

    noise_hu: float = 0.0
    """Add Gaussian noise to copies, with a standard deviation between 0 and this many HU."""

    contrast: float = 0.0
    """Change the contrast of copies about their mean HU by a factor within 1 +- this, 0-0.9."""

    scale: float = 0.0
    """Multiply the intensity above air (HU + 1024) of copies by a factor within 1 +- this, 0 to
    0.9."""

    def __post_init__(self) -> None:
        require_range("augment.copies", self.copies, 0, 64)
        require_range("augment.shift_vox", self.shift_vox, 0, 256)
        require_range("augment.noise_hu", self.noise_hu, 0, 1000)
        require_range("augment.contrast", self.contrast, 0, 0.9)
        require_range("augment.scale", self.scale, 0, 0.9)

    @property
    def changes_intensity(self) -> bool:
        """Whether copies differ in more than position and orientation."""
        return self.copies > 0 and (self.noise_hu > 0 or self.contrast > 0 or self.scale > 0)


@dataclass(kw_only=True)
class FeedConfig:
    """How batches reach the network.  Changes speed and memory, never the batches."""

    memory_gb: float | None = None
    """GPU memory for training scans.  Patches of scans that do not fit are cut on the CPU.  By
    default all memory that training and validation leave free.  0 cuts all patches on the CPU."""

    threads: int = 0
    """Number of CPU threads that cut patches.  0 uses one per idle processor core, at most 8, or
    one thread if the network itself runs on the CPU."""

    def __post_init__(self) -> None:
        if self.memory_gb is not None:
            require_range("feed.memory_gb", self.memory_gb, 0, 100_000)
        require_range("feed.threads", self.threads, 0, 256)


@dataclass(kw_only=True)
class GpuConfig:
    """How a GPU is used.  Ignored on a CPU."""

    cuda_graph: bool = True
    """Replay the training step as one CUDA graph.  Falls back to ordinary steps, with a line in
    the log, where the step cannot be captured (several processes, fp16)."""

    sync_norm: bool = True
    """With several GPUs, compute batch-norm statistics over the whole batch instead of each GPU's
    part.  Exact, but every layer waits for the other GPUs."""


@dataclass(kw_only=True)
class ValidationConfig:
    """When and on what a run is validated, and when it stops for lack of progress."""

    every_epochs: int = 5
    """Epochs between validations.  The last epoch is always validated."""

    patience: int = 0
    """Stop after this many validations without a better pAUC; 0 never stops early."""

    max_scans: int = 0
    """Validate on at most this many scans of the fold, drawn by seed; 0 uses all."""

    bootstrap: int = 1000
    """Number of resamples of the cases for the 95% CI and the standard error."""

    slab_gb: float = 1.0
    """CPU memory for the slab of a scan that is computed at once, never more than a quarter of
    the memory that the job may use.  A GPU uses half of its free memory."""

    def __post_init__(self) -> None:
        require_range("validation.every_epochs", self.every_epochs, 1, 1_000_000)
        require_range("validation.patience", self.patience, 0, 1_000_000)
        require_range("validation.max_scans", self.max_scans, 0, 1_000_000)
        require_range("validation.bootstrap", self.bootstrap, 100, 1_000_000)
        require_range("validation.slab_gb", self.slab_gb, 0.01, 10_000)


@dataclass(kw_only=True)
class CandidateConfig:
    """How a probability volume becomes candidates."""

    threshold: float = 0.02
    """Peaks below this probability are dropped."""

    merge_mm: float = 6.0
    """Peaks closer than this are merged into the highest of them."""

    region_share: float = 0.5
    """Share of its peak's probability down to which a lesion extends.  Peaks connected to a higher
    one at that level belong to its lesion, unless two lesions touch.  1 keeps every peak."""

    max_per_scan: int = 100
    """Largest number of candidates kept per scan, the best ones.  FROC up to 8 false positives per
    scan needs far fewer."""

    def __post_init__(self) -> None:
        require_range("candidates.threshold", self.threshold, 0, 1)
        require_range("candidates.merge_mm", self.merge_mm, 0, 100)
        require_range("candidates.region_share", self.region_share, 0.01, 1)
        require_range("candidates.max_per_scan", self.max_per_scan, 1, 1_000_000)


@dataclass(kw_only=True)
class LimitConfig:
    """When a run ends, or pauses to be resumed."""

    epochs: int = 40
    """Epochs of training."""

    wall_s: float = 0.0
    """Wall-clock limit of this session (one job) in seconds.  Shortly before it, the run saves a
    checkpoint and exits with code 85; the same command resumes it.  0 sets no limit."""

    checkpoint_s: float = 300.0
    """Seconds between checkpoints, in addition to those before and after each validation."""

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
    """Fold held out for validation.  The others are used for training."""

    test_fold: int | None = None
    """A second held-out fold, used neither for training nor for validation.  It is evaluated once
    at the end with the best checkpoint; the results are in ``test/`` of the run folder."""

    run_dir: str | None = None
    """Folder of this run; by default a new one below ``runs/``.  An incomplete run in it is
    resumed."""

    seed: int = 0
    """Seed of weights, patches and augmentation."""

    device: Device = Device.auto
    """auto, cpu or cuda."""

    precision: Precision = Precision.auto
    """auto, fp32, bf16 or fp16."""

    dry_run: bool = False
    """Measure 20 steps and one scan, print how long the run would take and what it would do, and
    train nothing.  With ``run_dir`` the figures are kept there, in ``forecast.json``."""

    fast: bool = False
    """Smoke test of the whole chain: 2 steps, 2 scans, a tiny network, in under a minute."""

    tracker: TrackerKind = TrackerKind.none
    """none, tensorboard (``tensorboard/`` in the run folder) or mlflow (``mlflow/``): metrics,
    settings and images of missed lesions.  A tracker that fails does not end the training."""

    tracker_uri: str = ""
    """mlflow: tracking server or folder to use instead of the run folder.  By default nothing is
    sent over a network."""

    patches: PatchConfig = field(default_factory=PatchConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    feed: FeedConfig = field(default_factory=FeedConfig)
    gpu: GpuConfig = field(default_factory=GpuConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)

    shared: bool = False
    """Set file permissions from the umask.  By default only their owner can read the files."""

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
        if self.model.factory:  # tried on a patch instead, once it is built
            return
        stride = math.prod(self.model.strides)
        if self.patches.size_vox % stride:
            raise ConfigError(
                f"patches.size_vox={self.patches.size_vox} is not a multiple of {stride}, as "
                f"model.depth={self.model.depth} requires; use "
                f"{max(16, self.patches.size_vox // stride * stride)} or a smaller depth"
            )
        coarsest_vox = self.patches.size_vox // stride
        if coarsest_vox < self.model.kernel_size - 1:
            raise ConfigError(
                f"patches.size_vox={self.patches.size_vox} with model.depth={self.model.depth} "
                f"leaves {coarsest_vox} voxels at the coarsest level, too few for "
                f"model.kernel_size={self.model.kernel_size}; lower the depth"
            )
