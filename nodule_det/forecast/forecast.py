"""What one training does, and how long it takes, from its settings, its data and a rate.

    TrainConfig, Data, Rate ──forecast()──▶ Forecast ──lines()──▶ text for a terminal

One engine for train, crossval, hpo and hpo finish: at their start, and with ``dry_run=true``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nodule_det.config.train import Device, TrainConfig
from nodule_det.data.roles import held_out, require_lesions, trained_on
from nodule_det.data.store import Store, open_store
from nodule_det.errors import ConfigError, StoreError
from nodule_det.forecast.cost import footprint
from nodule_det.progress import counted, duration

DAY_S = 86_400.0

NOMINAL_PER_CORE = 2e10
"""Operations per second and core where nothing was measured.  The demo's network reaches about
that on a core of an AMD EPYC virtual machine."""

GPU_DRIVER = Path("/proc/driver/nvidia/version")
"""Exists where there is an NVIDIA GPU, whose speed nothing but a measurement can say."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a training sees of a store."""

    n_scans: int
    """Scans that it trains on."""
    n_lesions: int
    """Lesions in them."""
    n_validated: int
    """Scans of a validation."""
    validated_voxels: float
    """Voxels of these scans."""


def data_of(store: Store, train: TrainConfig) -> Data:
    """Count what a training sees.

    Raises:
        ConfigError: If the test fold is the validation fold.
        StoreError: If the store lacks a fold.
    """
    training, validation = trained_on(store, train), held_out(store, train)
    return Data(
        n_scans=len(training),
        n_lesions=sum(len(scan.lesions) for scan in training),
        n_validated=len(validation),
        validated_voxels=float(sum(_voxels(scan.grid.size_vox) for scan in validation)),
    )


def data_at(train: TrainConfig) -> Data | None:
    """Count what a training sees; None where its store cannot be read from here."""
    try:
        return data_of(_opened(train.store), train)
    except StoreError:
        return None


def require_validation(train: TrainConfig) -> None:
    """Refuse a training that has no lesion to validate on, in the words of the training itself.

    Nothing is refused where its store cannot be read from here.

    Raises:
        ConfigError: If the store lacks the fold, or the scans to validate on have no lesion.
    """
    try:
        store = _opened(train.store)
    except StoreError:
        return
    try:
        require_lesions(store, train)
    except StoreError as error:
        raise ConfigError(str(error)) from error


@lru_cache(1)
def _opened(path: str) -> Store:
    return open_store(path)


def _voxels(size_vox: Sequence[int]) -> int:
    z, y, x = size_vox
    return z * y * x


@dataclass(frozen=True)
class Rate:
    """How fast a machine computes; operations are multiplications and additions."""

    training: float
    """Operations per second of a training step, forward and backward, its batch included."""
    validation: float
    """Operations per second of a validation."""
    source: str
    """Where this comes from, for the reader."""


def on_gpu(train: TrainConfig) -> bool:
    """Return whether a training would run on a GPU of this machine."""
    return train.device is not Device.cpu and GPU_DRIVER.exists()


def nominal_rate(train: TrainConfig, cores: int) -> Rate | None:
    """Return a rough rate of a CPU; None for a GPU or a network of the user's own."""
    if train.model.factory or on_gpu(train):
        return None
    per_s = NOMINAL_PER_CORE * cores
    many = counted(cores, "core")
    return Rate(per_s, per_s, f"rough, assuming {NOMINAL_PER_CORE / 1e9:g} GFLOP/s on {many}")


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one training does and takes."""

    epochs: int
    steps: int
    patches: int
    """Patches that it is shown, augmented copies included."""
    n_lesions: int | None
    """Lesions that it is trained on; None where the store was not read."""
    views: float | None
    """How often it is shown each lesion as the centre of a patch."""
    validations: int
    n_validated: int | None
    """Scans of each validation."""
    training_operations: float
    validation_operations: float
    n_parameters: int
    memory_bytes: float
    seconds: float | None
    """Time of the whole training; None where no rate is known."""
    rate: str
    """Where the rate comes from."""
    own_network: bool = False
    """Whether the network is not ours, so that operations, weights and memory are not known."""

    @property
    def operations(self) -> float:
        """Multiplications and additions of the whole training."""
        return self.training_operations + self.validation_operations

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def forecast(train: TrainConfig, data: Data | None, rate: Rate | None) -> Forecast:
    """Predict a training.

    Args:
        train: Its settings.
        data: What it sees of its store, if that is known.
        rate: How fast the machine is, if that is known.
    """
    needs = footprint(train, gpu=on_gpu(train))
    patches = needs.steps * train.optim.batch_size
    validations = -(-train.limits.epochs // train.validation.every_epochs)
    training = needs.operations_per_step * needs.steps
    validation = 0.0 if data is None else needs.validation * data.validated_voxels
    seconds = None
    if rate is not None:
        seconds = training / rate.training + validation / rate.validation
    views = None
    if data is not None and data.n_lesions:
        views = patches * train.patches.positive_fraction / data.n_lesions
    return Forecast(
        epochs=train.limits.epochs,
        steps=needs.steps,
        patches=patches,
        n_lesions=None if data is None else data.n_lesions,
        views=views,
        validations=validations,
        n_validated=None if data is None else data.n_validated,
        training_operations=training,
        validation_operations=validation,
        n_parameters=needs.n_parameters,
        memory_bytes=needs.memory_bytes,
        seconds=seconds,
        rate="" if rate is None else rate.source,
        own_network=bool(train.model.factory),
    )


def lines(expected: Forecast) -> list[str]:
    """Write a forecast, in two lines."""
    lesions = ""
    if expected.views is not None and expected.n_lesions is not None:
        lesions = f", each of {counted(expected.n_lesions, 'lesion')} seen about "
        lesions += counted(round(expected.views), "time")
    validated = (
        "" if expected.n_validated is None else f" of {counted(expected.n_validated, 'scan')}"
    )
    size = (
        f"{expected.n_parameters / 1e6:.2g} M weights, {quantity(expected.operations)}FLOP, "
        f"{expected.memory_bytes / 1e9:.1f} GB of memory, "
    )
    return [
        f"{counted(expected.epochs, 'epoch')}, {counted(expected.steps, 'step')}, "
        f"{counted(expected.patches, 'patch', 'patches')}{lesions}, "
        f"{counted(expected.validations, 'validation')}{validated}",
        f"{'' if expected.own_network else size}{time_of(expected)}",
    ]


def time_of(expected: Forecast) -> str:
    """Write the time of a training and where it comes from."""
    if expected.seconds is None:
        return "time unknown (nodule-det train with dry_run=true measures it where it runs)"
    return f"{hours(expected.seconds)} ({expected.rate})"


def hours(seconds: float) -> str:
    """Write a time as a person would say it.

    Example:
        >>> hours(40), hours(5000), hours(200_000)
        ('0:40 min', '1.4 h', '2.3 days')
    """
    if seconds < 3600:
        return f"{duration(seconds)} min"
    return f"{seconds / 3600:.1f} h" if seconds < DAY_S else f"{seconds / DAY_S:.1f} days"


def quantity(value: float) -> str:
    """Write a large number with a prefix.

    Example:
        >>> quantity(2.34e13), quantity(950)
        ('23 T', '950 ')
    """
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            digits = ".2g" if value < 100 * size else ".0f"
            return f"{value / size:{digits}} {prefix}"
    return f"{value:.0f} "


def warnings(expected: Forecast, session_s: float = 0.0) -> list[str]:
    """Say what is likely not intended about a training.

    Args:
        expected: Its forecast.
        session_s: Wall-clock limit of a session, 0 for none.
    """
    if expected.seconds is None:
        return []
    found = []
    if expected.seconds > DAY_S:
        found.append(
            f"one training is forecast to take {hours(expected.seconds)}: for less, lower "
            "limits.epochs, patches.size_vox or model.filters, or train on a GPU"
        )
    if session_s and expected.seconds > session_s:
        n = -(-expected.seconds // session_s)
        found.append(
            f"one training is forecast to take {hours(expected.seconds)}, more than the "
            f"{hours(session_s)} of limits.wall_s: it needs about {counted(round(n), 'session')}"
        )
    return found
