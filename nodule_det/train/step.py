"""One optimiser step that never waits for the device, and its loss, which is read now and then.

    Batch ──▶ Stepper: forward, loss, backward, clip, optimiser ──▶ sum of losses, first bad step
                       (on a GPU replayed as one CUDA graph)          (kept on the device)

Reading a loss makes the host wait until the device has finished, and then the device wait until the
host has enqueued the next step.  So the sum of losses and the number of the first step that was not
finite stay on the device.  The loop reads them every ``LOG_EVERY_STEPS`` steps and before every
checkpoint, so broken weights are never saved.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.batch import Batch
from nodule_det.model import memory_errors
from nodule_det.train.detector import Detector, make_detector
from nodule_det.train.optimizer import learning_rate, set_learning_rate
from nodule_det.train.trainer import Trainer

CLIP_NORM = 1.0
"""Largest norm of a gradient.  A single outlier batch must not derail the optimiser."""

EAGER_STEPS = 3
"""Ordinary steps before a graph is captured, in which cuDNN chooses its kernels and the optimiser
creates its state.  They are part of the run."""

WAITS = "called a synchronizing CUDA operation"
"""torch's warning, in its debug mode, that an operation makes the host wait for the device."""

PROTOTYPE = "Synchronization debug mode is a prototype"
"""torch's warning that its debug mode does not find all of them."""

log = logging.getLogger("nodule_det.train")


@dataclass(frozen=True)
class Reading:
    """Sum of losses and first bad step, while they are copied from the device.

    Attributes:
        values: (2,) float64: the sum, and the number of the first step whose loss or gradient was
            not finite, -1 if there was none.
        event: Event that is reached when ``values`` has arrived; None on a CPU.
    """

    values: Tensor
    event: torch.cuda.Event | None

    def wait(self) -> tuple[float, int]:
        """Return the sum of losses and the first bad step."""
        if self.event is not None:
            self.event.synchronize()
        loss_sum, bad = self.values.tolist()
        return loss_sum, int(bad)


class Stepper:
    """The optimiser steps of a session.

    Args:
        trainer: The run.
        forward: Its network, wrapped if several processes share it.
        detector: What computes the loss; by default that of the network.
    """

    def __init__(
        self, trainer: Trainer, forward: nn.Module, detector: Detector | None = None
    ) -> None:
        self._trainer, self._forward = trainer, forward
        self._detector: Detector = detector or make_detector(
            trainer.model, trainer.config, trainer.meta.receptive_field, trainer.device,
            trainer.dtype,
        )  # fmt: skip
        self._parameters = list(trainer.model.parameters())
        device = trainer.device
        self._seen = torch.tensor(
            [trainer.state.loss_sum, -1.0], dtype=torch.float64, device=device
        )
        self._number = torch.tensor(float(trainer.state.step), dtype=torch.float64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._static: Batch | None = None
        self._may_capture = wants_graph(trainer)
        self._done = 0
        self._abandoned: torch.cuda.CUDAGraph | None = None
        self._side = None
        if self._may_capture:
            self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, batch: Batch) -> None:
        """Enqueue one step; returns before the device has finished it.

        Raises:
            DeviceMemoryError: If a batch does not fit into the device's memory.
        """
        trainer = self._trainer
        lr = learning_rate(trainer.state.step, trainer.total_steps, trainer.config.optim.lr)
        set_learning_rate(trainer.optimizer, lr)
        with memory_errors(too_large(trainer.config, trainer.device)):
            if trainer.config.model.factory:  # its dropout must not depend on a resume
                torch.manual_seed(draw_seed(trainer))
            if self._may_capture and self._graph is None and self._done >= EAGER_STEPS:
                self._capture(batch)
            if self._graph is not None and self._static is not None:
                for static, part in zip(self._static.parts(), batch.parts(), strict=True):
                    static.copy_(part)
                self._graph.replay()
            elif self._may_capture and self._side is not None:
                self._compute_beside(self._side, batch)
            else:
                self._compute(*batch.parts())
        self._done += 1

    def read(self, *, reset: bool) -> Reading:
        """Copy the sum of losses and the first bad step to the host, without waiting.

        Args:
            reset: Whether to reset the sum to 0 afterwards.
        """
        if self._seen.is_cuda:
            values = torch.empty(2, dtype=torch.float64, pin_memory=True)
            values.copy_(self._seen, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        else:
            values, event = self._seen.clone(), None
        if reset:
            self._seen[0].zero_()
        return Reading(values, event)

    def _compute_beside(self, side: torch.cuda.Stream, batch: Batch) -> None:
        """Do an ordinary step on a stream of its own, as the graph is captured on one.

        In the last one torch notes whether the host waits for the device anywhere, as a network of
        the user's own may.  A capture would fail there, and torch up to 2.11 leaves its allocator
        in a state in which memory runs out later (pytorch issues 180395, 190308).
        """
        current = torch.cuda.current_stream(self._trainer.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            if self._done + 1 < EAGER_STEPS:
                self._compute(*batch.parts())
            else:
                with waits_noted() as places:
                    self._compute(*batch.parts())
                if places:
                    self._give_up(f"the host waits for the device in {places[0]}")
        current.wait_stream(side)

    def _give_up(self, reason: str) -> None:
        log.warning(
            "the training step cannot be captured as a CUDA graph (%s); continuing with ordinary "
            "steps", reason,
        )  # fmt: skip
        self._may_capture, self._static = False, None

    def _compute(self, image_hu: Tensor, target: Tensor, weight: Tensor) -> None:
        trainer = self._trainer
        with torch.autocast(
            trainer.device.type,
            trainer.dtype,
            enabled=trainer.dtype is not torch.float32,
            cache_enabled=not self._may_capture,
        ):
            loss = self._detector.loss(self._forward, image_hu, target, weight)
        if trainer.world.size > 1:  # the mean over the batch weighs each part by its voxels
            counted = (weight > 0).sum().float()
            loss = loss * counted * trainer.world.size / trainer.world.total(counted).clamp(min=1)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        trainer.scaler.unscale_(trainer.optimizer)
        norm = nn.utils.clip_grad_norm_(self._parameters, CLIP_NORM)
        trainer.scaler.step(trainer.optimizer)
        trainer.scaler.update()
        self._note(loss.detach(), norm)

    def _note(self, loss: Tensor, norm: Tensor) -> None:
        """Add a loss to the sum on the device, and record the first step that was not finite."""
        fine = torch.isfinite(loss)
        if not self._trainer.scaler.is_enabled():
            # With fp16 an infinite gradient is not a failure: the scaler skips the step and lowers
            # its scale.
            fine = fine & torch.isfinite(norm)
        bad = torch.where((self._seen[1] < 0) & ~fine, self._number, self._seen[1])
        self._seen[0].add_(loss)
        self._seen[1].copy_(bad)
        self._number.add_(1)

    def _capture(self, batch: Batch) -> None:
        """Capture the step as a graph, or continue with ordinary steps if that fails."""
        device = self._trainer.device
        self._static = Batch(*(part.clone() for part in batch.parts()))
        self._trainer.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads prepare batches meanwhile, and their calls must not end the capture
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._compute(*self._static.parts())
        except RuntimeError as error:
            cause = error.__context__ or error  # the end of a broken capture fails as well
            self._give_up(str(cause).partition("\n")[0])
            self._abandoned = graph  # the allocator may still refer to it
            torch.cuda.synchronize(device)
            return
        self._graph = graph
        log.info("the training step is replayed as a CUDA graph (gpu.cuda_graph)")


def draw_seed(trainer: Trainer) -> int:
    """Return the seed of a step's random layers, another one for each step and process."""
    words = (trainer.config.seed, trainer.state.step, trainer.world.rank)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def wants_graph(trainer: Trainer) -> bool:
    """Return whether to capture the step; logs why not if the setting requests it."""
    if trainer.device.type != "cuda" or not trainer.config.gpu.cuda_graph:
        return False
    reasons = {
        "several processes share a step": trainer.world.size > 1,
        "fp16 scales its loss": trainer.scaler.is_enabled(),
    }
    for reason, applies in reasons.items():
        if applies:
            log.info("no CUDA graph: %s", reason)
            return False
    return True


@contextmanager
def waits_noted() -> Iterator[list[str]]:
    """Collect where the host waits for the device meanwhile, as ``file.py:line``."""
    places: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if WAITS in str(warning.message):
            places.append(f"{Path(warning.filename).name}:{warning.lineno}")
        elif PROTOTYPE not in str(warning.message):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def too_large(config: TrainConfig, device: torch.device) -> str:
    """Say which settings to lower when a device has no memory left."""
    network = f"model.filters={config.model.filters}"
    if config.model.factory:
        network = f"model.kwargs={config.model.kwargs}"
    return (
        f"{device} has no memory left at optim.batch_size={config.optim.batch_size}, "
        f"patches.size_vox={config.patches.size_vox}, {network}; lower one of them"
    )
