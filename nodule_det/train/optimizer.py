"""The optimiser and the learning rate of each step.

    OptimConfig ──make_optimizer()──▶ Adam, AdamW or SGD (fused) ──set_learning_rate()──▶ a step

All use torch's fused implementation: a single kernel for all weights, on CPUs and GPUs.  On a GPU
the learning rate is a tensor on the device, so that a captured step reads its current value.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn

from nodule_det.config.train import OptimConfig, Optimizer

BETA2 = 0.999
WARM_UP = 0.05
"""Fraction of the steps in which the learning rate rises from 0: Adam's second moment needs some
steps until its scale is reliable."""
FINAL_LR = 0.01
"""Learning rate at the end of the cosine, as a fraction of the peak: batch-norm statistics settle
while the weights hardly change."""

PER_DEVICE = ("lr", "fused", "foreach", "capturable")
"""Entries of a parameter group that belong to the device, not to the run."""


def learning_rate(step: int, total_steps: int, peak: float) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine.

    Example:
        >>> [round(learning_rate(s, 100, 1.0), 2) for s in (0, 4, 52, 99)]
        [0.2, 1.0, 0.51, 0.01]
    """
    rise = max(1, round(WARM_UP * total_steps))
    if step < rise:
        return peak * (step + 1) / rise
    along = (step - rise) / max(1, total_steps - rise)
    return peak * (FINAL_LR + (1 - FINAL_LR) * (1 + math.cos(math.pi * along)) / 2)


def make_optimizer(
    model: nn.Module, config: OptimConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the optimiser of a network on ``device``."""
    on_gpu = device.type == "cuda"
    lr: Any = torch.tensor(config.lr, device=device) if on_gpu else config.lr
    parameters = model.parameters()
    if config.kind is Optimizer.sgd:
        return torch.optim.SGD(
            parameters, lr, momentum=config.beta1, nesterov=config.beta1 > 0,
            weight_decay=config.weight_decay, fused=True,
        )  # fmt: skip
    # torch warns at the ordinary steps before a capture, which need the same optimiser.
    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
    kind = torch.optim.AdamW if config.kind is Optimizer.adamw else torch.optim.Adam
    return kind(
        parameters, lr, betas=(config.beta1, BETA2), weight_decay=config.weight_decay,
        fused=True, capturable=on_gpu,
    )  # fmt: skip


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step, without waiting for a GPU."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def saved_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's state for a checkpoint that any device can resume from."""
    state = optimizer.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def restore_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a saved state, but keep the entries that belong to this device."""
    own = [{name: group[name] for name in PER_DEVICE if name in group}
           for group in optimizer.param_groups]  # fmt: skip
    saved = state["param_groups"]
    groups = [{**was, **now} for was, now in zip(saved, own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for group, now in zip(optimizer.param_groups, own, strict=True):
        group.update(now)
