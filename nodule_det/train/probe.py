"""A training on trial: a few steps and one scan, timed, for ``dry_run=true``.

TrainConfig ──measure()──▶ Rate, peak memory   (nothing of it is kept)
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from nodule_det.config.train import TrainConfig
from nodule_det.forecast.cost import footprint
from nodule_det.forecast.forecast import Rate
from nodule_det.model import for_inference
from nodule_det.runs import RunFolder
from nodule_det.train.assemble import assemble
from nodule_det.train.detector import make_detector
from nodule_det.train.distributed import World
from nodule_det.train.step import Stepper
from nodule_det.train.trainer import Trainer
from nodule_det.train.validate import Searcher

STEPS = 20
WARM_UP = 5
"""Steps that are not timed: the first ones choose kernels, and a GPU captures its graph."""
LONGEST_S = 60.0
"""No further step is timed after this."""


def measure(config: TrainConfig, device: torch.device, dtype: torch.dtype) -> Rate:
    """Train for some steps and validate one scan, and return how fast that was.

    Raises:
        NoduleDetError: If the training could not start either.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = assemble(config, RunFolder(Path(folder)), World(), device, dtype)
        needs = footprint(config, gpu=device.type == "cuda")
        step_s, n_steps = _time_steps(trainer)
        voxel_s = _time_voxel(trainer)
    per_voxel = needs.validation / -(-config.limits.epochs // config.validation.every_epochs)
    return Rate(
        training=needs.operations_per_step / step_s,
        validation=per_voxel / voxel_s,
        source=f"measured in {n_steps} steps on this machine",
    )


def _time_steps(trainer: Trainer) -> tuple[float, int]:
    """Return the seconds of a step, its batch included, and how many steps were timed."""
    step = Stepper(trainer, trainer.model)
    begun_s = time.monotonic()
    timed_s, n, epoch = begun_s, 0, 0
    while True:
        with closing(trainer.feed.batches(epoch)) as batches:
            for batch in batches:
                step(batch)
                trainer.state.step += 1
                n += 1
                if n == WARM_UP:
                    step.read(reset=False).wait()
                    timed_s = time.monotonic()
                late = time.monotonic() - begun_s > LONGEST_S
                if n == WARM_UP + STEPS or (late and n != WARM_UP):
                    step.read(reset=False).wait()
                    if n > WARM_UP:
                        return (time.monotonic() - timed_s) / (n - WARM_UP), n - WARM_UP
                    return (time.monotonic() - begun_s) / n, n
        epoch += 1


def _time_voxel(trainer: Trainer) -> float:
    """Return the seconds per voxel that the search of the smallest held-out scan takes."""
    scan = min(trainer.validation_scans, key=lambda s: s.volume_file.stat().st_size)
    model = for_inference(trainer.model.eval(), trainer.config.model)
    detector = make_detector(
        model, trainer.config, trainer.meta.receptive_field, trainer.device, trainer.dtype
    )
    searcher = Searcher(detector, trainer.device)
    begun_s = time.monotonic()
    with closing(searcher.search([scan])) as found:
        for _ in found:
            pass
    z, y, x = scan.grid.size_vox
    return (time.monotonic() - begun_s) / (z * y * x)
