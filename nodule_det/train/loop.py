"""The training loop, top to bottom.

    for epoch: for batch of Feed: forward ──loss──▶ backward ──clip──▶ Adam ──▶ metrics.jsonl
               every few epochs: validate ──▶ best.pt, last.pt, metrics.jsonl

What a step does depends on ``(seed, epoch, step)`` and the weights alone: patches, their order and
their augmentation have no other state.  So a run killed at any moment and started again from
``last.pt`` ends with the same bits, on a CPU, as one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from nodule_det.data.feed.feed import Batch
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.files import append_jsonl
from nodule_det.model import is_out_of_memory, normalise
from nodule_det.progress import Progress
from nodule_det.train.distributed import distributed_over
from nodule_det.train.losses import detection_loss
from nodule_det.train.trainer import State, Trainer
from nodule_det.train.validate import Validation, validate

BETA2 = 0.999
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises from 0: Adam's second moment needs some
steps before its scale can be trusted."""
FINAL_LR = 0.01
"""Learning rate at the end of the cosine, as a share of the largest one: batch norm's statistics
settle while the weights hardly move."""
CLIP_NORM = 1.0
"""Largest norm of a gradient; one odd batch of a small minibatch must not throw Adam off."""
LOG_EVERY_STEPS = 20
"""Steps averaged in a line of ``metrics.jsonl``."""

MustStop = Callable[[float], str | None]
"""Asked before work of so many seconds that should not be interrupted: why to stop, or None."""

log = logging.getLogger("nodule_det.train")


def learning_rate(step: int, total_steps: int, largest: float) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine.

    Example:
        >>> [round(learning_rate(s, 100, 1.0), 2) for s in (0, 4, 52, 99)]
        [0.2, 1.0, 0.51, 0.01]
    """
    rise = max(1, round(WARM_UP * total_steps))
    if step < rise:
        return largest * (step + 1) / rise
    along = (step - rise) / max(1, total_steps - rise)
    return largest * (FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * along)) / 2)


def fit(trainer: Trainer, must_stop: MustStop, publish: Callable[[Validation], None]) -> str | None:
    """Train until all epochs are done, validation no longer gains, or someone says stop.

    Args:
        trainer: Fresh, or restored from a checkpoint.
        must_stop: Asked after every step and every validated scan.
        publish: Given each validation that is the best so far, after its weights were saved.

    Returns:
        Why it stopped, with ``last.pt`` holding all that is needed to go on; None where the run
        is complete.

    Raises:
        DivergedError: If the loss or its gradient is not a finite number.
        DeviceMemoryError: If a batch does not fit on the device.
    """
    config, state, world, feed = trainer.config, trainer.state, trainer.world, trainer.feed
    forward = distributed_over(trainer.model, trainer.device, world)
    clock = Clock(state)
    with Progress("train", trainer.total_steps, enabled=world.first) as progress:
        progress.start_at(state.step)
        while True:
            if _validation_is_due(trainer):
                trainer.save(trainer.folder.checkpoint_last, training=True)
                if reason := world.first_of(must_stop(1.5 * state.validation_s)):
                    return reason
                validation, reason = _validate(trainer, clock, must_stop)
                if validation is None:
                    return reason
                if _best_yet(state, validation):
                    trainer.save(trainer.folder.checkpoint_best, training=False)
                    publish(validation)
                _log_validation(trainer, validation)
                trainer.save(trainer.folder.checkpoint_last, training=True)
                clock.saved()
            if state.epoch == config.limits.epochs or 0 < config.validation.patience <= state.worse:
                return None
            done = state.step - state.epoch * feed.steps_per_epoch
            for batch in feed.batches(
                state.epoch, first_step=done, rank=world.rank, world_size=world.size
            ):
                loss = _step(trainer, forward, batch)
                clock.tick()
                save = clock.since_save_s() >= config.limits.checkpoint_s
                everyone = world.gather((loss, must_stop(0.0), save))
                loss = _finite_mean([part for part, _, _ in everyone], trainer)
                state.step += 1
                _log_step(trainer, loss)
                progress.advance(f"epoch {state.epoch + 1}  loss {loss:.4f}{_so_far(state)}")
                reason = next((why for _, why, _ in everyone if why), None)
                if reason or any(due for _, _, due in everyone):
                    trainer.save(trainer.folder.checkpoint_last, training=True)
                    clock.saved()
                if reason:
                    return reason
            state.epoch += 1


class Clock:
    """Keeps ``State.seconds``, over all sessions, and the time since the last checkpoint."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._before_s = state.seconds
        self._started_s = self._saved_s = time.monotonic()

    def tick(self) -> None:
        """Bring ``State.seconds`` up to date."""
        self._state.seconds = self._before_s + time.monotonic() - self._started_s

    def since_save_s(self) -> float:
        """Return the seconds since :meth:`saved` or the start."""
        return time.monotonic() - self._saved_s

    def saved(self) -> None:
        """Note that a checkpoint was written."""
        self._saved_s = time.monotonic()


def _step(trainer: Trainer, forward: nn.Module, batch: Batch) -> float:
    """Do one optimiser step.

    Returns:
        This process's part of the batch's loss; their mean is the loss.  NaN where its gradient
        is not finite.
    """
    state, config = trainer.state, trainer.config
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate(state.step, trainer.total_steps, config.optim.lr)
    with _memory_of(trainer):
        image, target, weight = (
            torch.from_numpy(part).to(trainer.device, non_blocking=True)
            for part in (batch.image_hu, batch.target, batch.weight)
        )
        image = normalise(image).to(memory_format=torch.channels_last_3d)
        with torch.autocast(
            trainer.device.type, trainer.dtype, enabled=trainer.dtype is not torch.float32
        ):
            logits = forward(image)
        counted = (weight > 0).sum().float()
        share = counted * trainer.world.size / trainer.world.total(counted).clamp(min=1)
        loss = share * detection_loss(logits, target, weight)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        trainer.scaler.unscale_(trainer.optimizer)
        norm = nn.utils.clip_grad_norm_(trainer.model.parameters(), CLIP_NORM)
        trainer.scaler.step(trainer.optimizer)
        trainer.scaler.update()
    # With fp16 an infinite gradient is no failure: the scaler skips the step and scales less.
    broken = not trainer.scaler.is_enabled() and not math.isfinite(float(norm))
    return math.nan if broken else float(loss.detach())


def _finite_mean(losses: Sequence[float], trainer: Trainer) -> float:
    """Average the processes' losses; no checkpoint is written once one of them is no number."""
    loss = sum(losses) / len(losses)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss or its gradient is not finite at step {trainer.state.step} with "
            f"optim.lr={trainer.config.optim.lr}; lower the learning rate"
        )
    return loss


@contextmanager
def _memory_of(trainer: Trainer) -> Iterator[None]:
    """Turn a full device into an error that names the settings to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        config = trainer.config
        raise DeviceMemoryError(
            f"{trainer.device} has no memory left at optim.batch_size={config.optim.batch_size}, "
            f"patches.size_vox={config.patches.size_vox}, model.filters={config.model.filters}; "
            "lower one of them"
        ) from error


def _log_step(trainer: Trainer, loss: float) -> None:
    state = trainer.state
    state.loss_sum += loss
    state.loss_n += 1
    if state.step % LOG_EVERY_STEPS and state.step != trainer.total_steps:
        return
    if trainer.world.first:
        row = {
            "kind": "train",
            "step": state.step,
            "epoch": state.epoch,
            "seconds": round(state.seconds, 3),
            "loss": state.loss_sum / state.loss_n,
            "lr": trainer.optimizer.param_groups[0]["lr"],
        }
        append_jsonl(trainer.folder.metrics, row)
        log.info("step %(step)d  epoch %(epoch)d  loss %(loss).5f  lr %(lr).2e", row)
    state.loss_sum, state.loss_n = 0.0, 0


def _validation_is_due(trainer: Trainer) -> bool:
    state, config = trainer.state, trainer.config
    return state.validated < state.epoch and (
        state.epoch % config.validation.every_epochs == 0 or state.epoch == config.limits.epochs
    )


def _validate(
    trainer: Trainer, clock: Clock, must_stop: MustStop
) -> tuple[Validation | None, str | None]:
    """Validate; gives (None, reason) where it was broken off, to be done again from the start."""
    started_s = time.monotonic()
    world = trainer.world
    world.same_buffers(trainer.model)
    reason: str | None = None
    mine = -(-len(trainer.validation_scans) // world.size)
    with Progress("validate", mine, enabled=world.first) as progress:

        def go_on() -> bool:
            nonlocal reason
            progress.advance()
            reason = must_stop(0.0)
            return reason is None

        validation = validate(
            trainer.model,
            trainer.validation_scans,
            trainer.config,
            device=trainer.device,
            dtype=trainer.dtype,
            world=world,
            go_on=go_on,
        )
    clock.tick()
    if validation is not None:
        trainer.state.validated = trainer.state.epoch
        trainer.state.validation_s = time.monotonic() - started_s
    return validation, world.first_of(reason)


def _best_yet(state: State, validation: Validation) -> bool:
    """Note whether this is the best validation so far; the first is, even if pAUC is undefined."""
    pauc = validation.froc.pauc
    better = pauc is not None and (state.best_pauc is None or pauc > state.best_pauc)
    if better or state.best_step is None:
        state.best_pauc, state.best_step, state.worse = pauc, state.step, 0
        return True
    state.worse += 1
    return False


def _log_validation(trainer: Trainer, validation: Validation) -> None:
    if not trainer.world.first:
        return
    state, result = trainer.state, validation.froc
    row = {
        "kind": "validation",
        "step": state.step,
        "epoch": state.epoch,
        "seconds": round(state.seconds, 3),
        "pauc": result.pauc,
        "pauc_se": result.pauc_se,
        "cpm": result.cpm,
        "n_candidates": sum(map(len, validation.candidates)),
        "n_dropped": validation.n_dropped,
    }
    append_jsonl(trainer.folder.metrics, row)
    log.info("validation at step %d: pAUC %s, best %s", state.step, result.pauc, state.best_pauc)
    if validation.n_dropped and not trainer.told_dropped:
        trainer.told_dropped = True
        log.warning(
            "%d candidates of %d scans are left out by candidates.max_per_scan=%d, the lowest of "
            "each scan; should lesions be among them, raise it (result.json counts them for the "
            "best validation)",
            validation.n_dropped, len(validation.scans), trainer.config.candidates.max_per_scan,
        )  # fmt: skip


def _so_far(state: State) -> str:
    return "" if state.best_pauc is None else f"  best pAUC {state.best_pauc:.3f}"
