"""The parts of a run, put together from its settings.

TrainConfig, Store ──assemble()──▶ Trainer: network, optimiser, feed, held-out scans
"""

from __future__ import annotations

import logging

import torch
from torch import nn

from nodule_det import __version__
from nodule_det.checkpoint import Checkpoint, Meta
from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.feed import make_feed
from nodule_det.data.roles import held_out, known_patients, trained_on
from nodule_det.data.store import Store, open_store
from nodule_det.model import (
    ReceptiveField,
    build_model,
    channels_last,
    field_of,
    finds_candidates,
    memory_errors,
)
from nodule_det.origin import ScanRecord
from nodule_det.runs import RunFolder
from nodule_det.train.distributed import World
from nodule_det.train.optimizer import make_optimizer
from nodule_det.train.trainer import Trainer

log = logging.getLogger("nodule_det.train")


def assemble(
    config: TrainConfig,
    folder: RunFolder,
    processes: World,
    device: torch.device,
    dtype: torch.dtype,
    last: Checkpoint | None = None,
) -> Trainer:
    """Build a fresh trainer.

    Args:
        config: Settings of the run.
        folder: Where it writes.
        processes: Those that share the work.
        device: Where to compute.
        dtype: Type of the forward pass.
        last: The checkpoint that is to be restored; what was measured of its network is not
            measured again.

    Raises:
        NoduleDetError: If the store is unfit for the settings.
    """
    store = open_store(config.store)
    torch.manual_seed(config.seed)
    model = build_model(config.model)
    meta = _meta(config, store, _measured(model, config, last))
    model = channels_last(model.to(device))
    with memory_errors(
        f"{device} has no memory left for training scans (feed.memory_gb="
        f"{config.feed.memory_gb}); set a lower feed.memory_gb, 0 cuts all patches on the CPU"
    ):
        scans = trained_on(store, config)
        feed = make_feed(scans, config, device, show_progress=processes.first)
    return Trainer(
        config=config,
        meta=meta,
        model=model,
        optimizer=make_optimizer(model, config.optim, device),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype is torch.float16),
        feed=feed,
        validation_scans=held_out(store, config),
        folder=folder,
        world=processes,
        device=device,
        dtype=dtype,
    )


def _measured(
    model: nn.Module, config: TrainConfig, last: Checkpoint | None
) -> ReceptiveField | None:
    """Return the receptive field of a network of the user's own, from the checkpoint if it has it.

    Raises:
        ConfigError: If the network does not map a patch to logits of the same shape.
    """
    if not config.model.factory:
        return None
    if last is not None and last.meta.measured is not None:
        return last.meta.measured
    field = field_of(model, config.model, config.patches.size_vox, config.optim.batch_size)
    if finds_candidates(model):
        log.info("%s finds candidates itself: candidates.* does not apply", config.model.factory)
    else:
        log.info("%s: %s", config.model.factory, described(field))
    return field


def described(field: ReceptiveField) -> str:
    """Say how scans are searched by a network whose receptive field was measured."""
    if field.radius_vox is None:
        return (
            "an output voxel depends on its whole window (instance or group norm, attention, or a "
            f"very large reach): scans are searched by overlapping windows of {field.window_vox} "
            "voxels with Gaussian blending"
        )
    return (
        f"an output voxel sees {field.radius_vox} voxels either way, at a stride of "
        f"{field.stride_vox}: scans are searched in slabs, with the result of a single pass"
    )


def _meta(config: TrainConfig, store: Store, measured: ReceptiveField | None) -> Meta:
    return Meta(
        model=config.model,
        spacing_mm=store.spacing_mm,
        margin_mm=float(store.settings["margin_mm"]),
        version=__version__,
        measured=measured,
        scans=ScanRecord.of(
            (scan.series_uid for scan in trained_on(store, config)),
            (scan.series_uid for scan in held_out(store, config)),
            known_patients(store),
        ),
    )
