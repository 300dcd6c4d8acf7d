"""The training loop, top to bottom.

    for epoch: for batch of Feed: Stepper: forward, backward, optimiser ──▶ metrics.jsonl
               every few epochs: validate ──▶ best.pt, last.pt, metrics.jsonl

A step depends only on ``(seed, epoch, step)`` and the weights: patches, their order and their
augmentation have no other state.  So on a CPU a run that is killed at any moment and resumed from
``last.pt`` ends with the same bits as one that was never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from nodule_det.errors import DivergedError
from nodule_det.files import append_jsonl, read_jsonl
from nodule_det.plots.training import save_training
from nodule_det.progress import Progress
from nodule_det.train.distributed import distributed_over
from nodule_det.train.optimizer import learning_rate
from nodule_det.train.partial import PartialValidation
from nodule_det.train.step import Reading, Stepper
from nodule_det.train.tracker import worst_misses
from nodule_det.train.trainer import State, Trainer
from nodule_det.train.validate import Validation, validate

LOG_EVERY_STEPS = 20
"""Number of steps averaged in a line of ``metrics.jsonl``."""

AGREE_EVERY_S = 1.0
"""Seconds between two exchanges of several processes about whether to stop or to save."""

MustStop = Callable[[float], str | None]
"""Takes the seconds of the next uninterruptible work; returns why to stop before it, or None."""

log = logging.getLogger("nodule_det.train")


def fit(trainer: Trainer, must_stop: MustStop, publish: Callable[[Validation], None]) -> str | None:
    """Train until all epochs are done, validation stops improving, or ``must_stop`` gives a reason.

    Args:
        trainer: Fresh, or restored from a checkpoint.
        must_stop: Called after every step and every validated scan.
        publish: Called with each validation that is the best so far, after its weights were saved.

    Returns:
        Why it stopped, with everything needed to resume in ``last.pt``; None if the run is
        complete.

    Raises:
        DivergedError: If the loss or its gradient is not a finite number.
        DeviceMemoryError: If a batch does not fit on the device.
    """
    config, state, world = trainer.config, trainer.state, trainer.world
    loop = _Loop(trainer, must_stop)
    with Progress("train", trainer.total_steps, enabled=world.first) as progress:
        progress.start_at(state.step)
        while True:
            if _validation_is_due(trainer):
                validation, reason = loop.validate()
                if validation is None:
                    return reason
                if _best_yet(state, validation):
                    trainer.save(trainer.folder.checkpoint_best, training=False)
                    publish(validation)
                _log_validation(trainer, validation)
                loop.save()
            if state.epoch == config.limits.epochs or 0 < config.validation.patience <= state.worse:
                return None
            if reason := loop.train_epoch(progress):
                return reason
            state.epoch += 1


class Clock:
    """Updates ``State.seconds``, over all sessions, and measures the time since the checkpoint."""

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
        """Record that a checkpoint was written."""
        self._saved_s = time.monotonic()


@dataclass(frozen=True)
class _Line:
    """A line of ``metrics.jsonl`` whose loss is still being copied from the device."""

    row: dict[str, object]
    loss_n: int
    reading: Reading


class _Loop:
    """State of a session between steps, in addition to the trainer's state."""

    def __init__(self, trainer: Trainer, must_stop: MustStop) -> None:
        self._trainer, self._must_stop = trainer, must_stop
        forward = distributed_over(
            trainer.model, trainer.device, trainer.world, sync_norm=trainer.config.gpu.sync_norm
        )
        self._step = Stepper(trainer, forward)
        self._clock = Clock(trainer.state)
        self._began_at = trainer.state.step
        self._pending: _Line | None = None
        self._last_loss = math.nan
        self._agreed_at, self._agreed_s = trainer.state.step, time.monotonic()
        self._agree_at = trainer.state.step + 1

    def train_epoch(self, progress: Progress) -> str | None:
        """Train to the end of the epoch; returns why it stopped early, after a checkpoint."""
        trainer, state, world = self._trainer, self._trainer.state, self._trainer.world
        done = state.step - state.epoch * trainer.feed.steps_per_epoch
        batches = trainer.feed.batches(
            state.epoch, first_step=done, rank=world.rank, world_size=world.size
        )
        with closing(batches):
            for batch in batches:
                self._step(batch)
                state.step += 1
                state.loss_n += 1
                self._clock.tick()
                self._log_step()
                loss = "" if math.isnan(self._last_loss) else f"  loss {self._last_loss:.4f}"
                progress.advance(f"epoch {state.epoch + 1}{loss}{_so_far(state)}")
                reason, due = self._agree()
                if reason or due:
                    self.save()
                if reason:
                    return reason
        return None

    def save(self) -> None:
        """Write ``last.pt``, after checking that all losses up to this step are finite.

        Raises:
            DivergedError: If one is not.  Nothing is written.
        """
        trainer, state = self._trainer, self._trainer.state
        self._write_pending()
        state.loss_sum = self._checked(self._step.read(reset=False))
        trainer.save(trainer.folder.checkpoint_last, training=True)
        self._clock.saved()

    def validate(self) -> tuple[Validation | None, str | None]:
        """Validate; returns (None, reason) if interrupted, to be resumed scan by scan."""
        trainer, state, world = self._trainer, self._trainer.state, self._trainer.world
        self.save()
        if state.step > self._began_at:  # a session that only validates does at least one scan
            reason = world.first_of(self._must_stop(1.5 * state.scan_s))
            if reason:
                return None, reason
        started_s = time.monotonic()
        world.same_buffers(trainer.model)
        partial = PartialValidation.open(trainer)
        reason = None
        with Progress("validate", len(trainer.validation_scans), enabled=world.first) as progress:
            progress.start_at(len(partial.found))

            def proceed(scan_s: float) -> bool:
                nonlocal reason
                state.scan_s = max(state.scan_s, scan_s)
                progress.advance(steps=world.size)
                reason = self._must_stop(1.5 * state.scan_s)
                return reason is None

            validation = validate(
                trainer.model,
                trainer.validation_scans,
                trainer.config,
                trainer.meta.receptive_field,
                device=trainer.device,
                dtype=trainer.dtype,
                world=world,
                proceed=proceed,
                partial=partial,
            )
        self._clock.tick()
        if validation is None:
            return None, world.first_of(reason)
        if world.first:
            partial.remove()
        state.validated = state.epoch
        state.validation_s = time.monotonic() - started_s
        return validation, None

    def _agree(self) -> tuple[str | None, bool]:
        """Return why to stop, and whether to save, the same in all processes.

        A single process decides after every step.  Several exchange their answers about once a
        second.
        """
        trainer, world = self._trainer, self._trainer.world
        due = self._clock.since_save_s() >= trainer.config.limits.checkpoint_s
        if world.size == 1:
            return self._must_stop(0.0), due
        step, now_s = trainer.state.step, time.monotonic()
        if step < self._agree_at:
            return None, False
        step_s = (now_s - self._agreed_s) / max(1, step - self._agreed_at)
        pace = min(LOG_EVERY_STEPS, max(1, int(AGREE_EVERY_S / max(step_s, 1e-6))))
        everyone = world.gather((self._must_stop(0.0), due, pace))
        self._agreed_at, self._agreed_s = step, now_s
        self._agree_at = step + everyone[0][2]
        reason = next((why for why, _, _ in everyone if why), None)
        return reason, any(save for _, save, _ in everyone)

    def _log_step(self) -> None:
        """Begin a line of metrics and write the previous one, whose loss has arrived by now."""
        trainer, state = self._trainer, self._trainer.state
        if state.step % LOG_EVERY_STEPS and state.step != trainer.total_steps:
            return
        self._write_pending()
        lr = learning_rate(state.step - 1, trainer.total_steps, trainer.config.optim.lr)
        row = {
            "kind": "train",
            "step": state.step,
            "epoch": state.epoch,
            "seconds": round(state.seconds, 3),
            "lr": lr,
        }
        self._pending = _Line(row, state.loss_n, self._step.read(reset=True))
        state.loss_sum, state.loss_n = 0.0, 0
        if trainer.device.type == "cpu":
            self._write_pending()

    def _write_pending(self) -> None:
        if self._pending is None:
            return
        line, self._pending = self._pending, None
        self._last_loss = self._checked(line.reading) / line.loss_n
        if self._trainer.world.first:
            row = {**line.row, "loss": self._last_loss}
            append_jsonl(self._trainer.folder.metrics, row)
            self._trainer.tracker.log(row)
            log.info("step %(step)d  epoch %(epoch)d  loss %(loss).5f  lr %(lr).2e", row)

    def _checked(self, reading: Reading) -> float:
        """Return the sum of losses, averaged over the processes.

        Raises:
            DivergedError: If the loss or gradient of a step was not finite in any process.
        """
        everyone = self._trainer.world.gather(reading.wait())
        bad = [step for _, step in everyone if step >= 0]
        if bad:
            raise DivergedError(
                f"the loss or its gradient is not finite at step {min(bad)} with "
                f"optim.lr={self._trainer.config.optim.lr}; lower the learning rate"
            )
        return sum(loss_sum for loss_sum, _ in everyone) / len(everyone)


def _validation_is_due(trainer: Trainer) -> bool:
    state, config = trainer.state, trainer.config
    return state.validated < state.epoch and (
        state.epoch % config.validation.every_epochs == 0 or state.epoch == config.limits.epochs
    )


def _best_yet(state: State, validation: Validation) -> bool:
    """Record whether this validation is the best so far.  The first one is, even without a pAUC."""
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
        "pauc_interval": None if result.few_scans else result.pauc_interval,
        "cpm": result.cpm,
        "n_candidates": sum(map(len, validation.candidates)),
        "n_dropped": validation.n_dropped,
    }
    append_jsonl(trainer.folder.metrics, row)
    save_training(read_jsonl(trainer.folder.metrics), trainer.folder.training_figure)
    trainer.tracker.log(row)
    trainer.tracker.images(state.step, worst_misses(validation.scans, validation.matched))
    log.info("validation at step %d: pAUC %s, best %s", state.step, result.pauc, state.best_pauc)
    if validation.n_dropped and not trainer.warned_dropped:
        trainer.warned_dropped = True
        log.warning(
            "%d lower peaks of %d scans were not examined, because each scan has the "
            "candidates.max_per_scan=%d highest; raise it if lesions may be among them "
            "(result.json has the number for the best validation)",
            validation.n_dropped, len(validation.scans), trainer.config.candidates.max_per_scan,
        )  # fmt: skip


def _so_far(state: State) -> str:
    return "" if state.best_pauc is None else f"  best pAUC {state.best_pauc:.3f}"
