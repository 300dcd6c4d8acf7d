"""One run in one process, and its state in a checkpoint.

Trainer ──save──▶ last.pt (weights, optimiser, State), best.pt (weights) ──restore──▶ Trainer
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nodule_det.checkpoint import Checkpoint, Meta, load_weights, save_checkpoint
from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.feed import Feed
from nodule_det.data.store import StoredScan
from nodule_det.errors import CheckpointError
from nodule_det.runs import RunFolder
from nodule_det.train.distributed import World
from nodule_det.train.optimizer import restore_state, saved_state
from nodule_det.train.tracker import NoTracker, Tracker


@dataclass
class State:
    """State of a run besides weights and optimiser: plain values only."""

    step: int = 0
    """Optimiser steps done."""
    epoch: int = 0
    """Complete epochs; ``step`` may be within the next one."""
    validated: int = 0
    """Epoch of the last validation."""
    seconds: float = 0.0
    """Wall-clock time of all sessions."""
    validation_s: float = 0.0
    """Duration of the last validation, or of its part in this session."""
    scan_s: float = 0.0
    """Longest validation time of a single scan."""
    best_pauc: float | None = None
    best_step: int | None = None
    worse: int = 0
    """Validations since the best one."""
    loss_sum: float = 0.0
    """Sum of losses since the last line of metrics."""
    loss_n: int = 0


@dataclass
class Trainer:
    """One run in one process, which :func:`nodule_det.train.loop.fit` trains."""

    config: TrainConfig
    meta: Meta
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    feed: Feed
    validation_scans: Sequence[StoredScan]
    folder: RunFolder
    world: World
    device: torch.device
    dtype: torch.dtype
    state: State = field(default_factory=State)
    tracker: Tracker = field(default_factory=NoTracker)
    warned_dropped: bool = False
    """Whether this session has already reported discarded candidates."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.limits.epochs * self.feed.steps_per_epoch

    @property
    def n_validations(self) -> int:
        """Validations so far, each of which may have chosen the best checkpoint."""
        return -(-self.state.validated // self.config.validation.every_epochs)

    def save(self, path: Path, *, training: bool) -> None:
        """Write a checkpoint, in the first process only."""
        if not self.world.first:
            return
        state = None
        if training:
            state = {
                "optimizer": saved_state(self.optimizer),
                "scaler": self.scaler.state_dict(),
                "state": asdict(self.state),
            }
        meta = replace(self.meta, step=self.state.step)
        save_checkpoint(path, Checkpoint(meta, self.model.state_dict(), state))

    def restore(self, checkpoint: Checkpoint, path: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            CheckpointError: If it is of another architecture or store, or has only weights.
        """
        load_weights(self.model, checkpoint, path)
        training, meta = checkpoint.training, checkpoint.meta
        if training is None:
            raise CheckpointError(
                f"checkpoint {path} has only weights, so a run cannot resume from it; restore the "
                "run's own last.pt, or use another run_dir"
            )
        if meta.spacing_mm != self.meta.spacing_mm:
            raise CheckpointError(
                f"checkpoint {path} was trained on voxels of {meta.spacing_mm} mm, but "
                f"store={self.config.store} has {self.meta.spacing_mm} mm; use another run_dir"
            )
        try:
            restore_state(self.optimizer, training["optimizer"])
            self.scaler.load_state_dict(training["scaler"])
            self.state = _state(training["state"])
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"checkpoint {path} has a training state that does not fit ({error}); restore the "
                "run's own last.pt, or use another run_dir"
            ) from error


def _state(values: dict[str, Any]) -> State:
    """Convert saved values to a state; raises ValueError for impossible ones."""
    state = State(**values)
    for name, value in asdict(state).items():
        if value is None and name in ("best_pauc", "best_step"):
            continue
        fractional = name == "best_pauc" or isinstance(getattr(State(), name), float)
        fits = isinstance(value, int | float) if fractional else isinstance(value, int)
        if not fits or not math.isfinite(value) or (value < 0 and name != "loss_sum"):
            raise ValueError(f"state.{name} is {value}")
    return state
