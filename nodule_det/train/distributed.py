"""The processes of one run: a single one, or those that ``torchrun`` starts on one or more nodes.

    torchrun --nproc_per_node=2 -m nodule_det.train ...  ──▶ World(rank, size) in each process

    process 1 fails ──report_failure()──▶ .failed.1.json ──why_lost()──▶ process 0 ──▶ result.json

Only the first process writes the run's files.  It notices the loss of another process as a broken
connection, which does not show the reason.  So a failing process writes its reason to the run
folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import distributed_c10d
from torch.nn.parallel import DistributedDataParallel

from nodule_det.errors import (
    ConfigError,
    DeviceMemoryError,
    DivergedError,
    NoduleDetError,
    OwnCodeError,
    TrainingError,
    UnwrittenError,
)
from nodule_det.files import write_json

Item = TypeVar("Item")

ERRORS: dict[int, type[NoduleDetError]] = {
    error.exit_code: error
    for error in (ConfigError, DivergedError, DeviceMemoryError, UnwrittenError)
}
"""Exit code of a failed process -> error that the first process raises for it."""

LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
    "Timed out waiting",
    "NCCL",
)
"""Phrases in the errors of gloo and NCCL when the other end of a connection is gone."""


@dataclass(frozen=True)
class World:
    """Rank of this process and number of processes.  A single process exchanges with itself."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def first_of(self, word: str | None) -> str | None:
        """Return the value of the lowest rank whose value is not empty, the same on all ranks."""
        return next((said for said in self.gather(word) if said), None)

    def gather(self, item: Item) -> list[Item]:
        """Collect one item from each process, ordered by rank, in every process."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        distributed.all_gather_object(items, item)
        return items

    def from_first(self, item: Item) -> Item:
        """Return the item of the first process, in every process."""
        if self.size == 1:
            return item
        items: list[Any] = [item]
        distributed.broadcast_object_list(items, src=0)
        return items[0]  # type: ignore[no-any-return]

    def total(self, amount: Tensor) -> Tensor:
        """Sum a tensor over the processes on its device.  With NCCL the host does not wait."""
        if self.size == 1:
            return amount
        summed = amount.clone()
        distributed.all_reduce(summed)
        return summed

    def same_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers to all processes: running averages differ otherwise."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


@contextmanager
def world(device_type: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, if any, and leave the group at the end.

    Args:
        device_type: ``cuda`` uses NCCL, and gloo for objects on the CPU; ``cpu`` uses gloo.

    Raises:
        TrainingError: If another process is lost before the run has begun.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo")
    try:
        yield World(distributed.get_rank(), size, local_rank)
    except BaseException as error:
        # NCCL's orderly end first waits for exchanges that the other processes may never join.
        distributed_c10d._abort_process_group()
        if not lost_another(error):
            raise
        raise TrainingError("another process of this run failed; see its message") from error
    distributed.destroy_process_group()


def distributed_over(
    model: nn.Module, device: torch.device, world: World, *, sync_norm: bool = True
) -> nn.Module:
    """Wrap a network so that gradients are averaged over the processes.

    Args:
        model: Network on ``device``.
        device: Where this process computes.
        world: The processes.
        sync_norm: On GPUs, compute batch-norm statistics over the whole batch, so that a run does
            not depend on the number of GPUs.  torch's ``SyncBatchNorm`` waits for the host in
            every layer.  Without it each process normalises its own part.  On CPUs torch has no
            such layer, and each process always normalises its own part.
    """
    if world.size == 1:
        return model
    if device.type == "cuda" and sync_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    for weight in model.parameters():
        if weight.requires_grad and 1 in weight.shape:
            hook = partial(_with_strides, strides=weight.stride())
            weight.register_hook(hook)  # type: ignore[no-untyped-call]
    shared = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    # One exchange less in each step: running averages are only used by validation, which copies
    # them (World.same_buffers).  The constructor's argument is named otherwise since torch 2.13.
    shared.broadcast_buffers = False
    return shared


def _with_strides(gradient: Tensor, *, strides: tuple[int, ...]) -> Tensor:
    """View a gradient with the strides of its weight, if both have the same order in memory.

    An axis of length 1 has no stride of its own.  Convolutions return that of the contiguous
    layout, and a channels-last weight has another.  DDP compares them literally and warns of slow
    copies.  Any other difference is left to autograd, which copies such a gradient.
    """
    pairs = zip(gradient.shape, gradient.stride(), strides, strict=True)
    if all(n == 1 or has == wanted for n, has, wanted in pairs):
        return gradient.as_strided(gradient.shape, strides)
    return gradient


def lost_another(error: BaseException) -> bool:
    """Return whether an error means that another process is gone, not a failure of this one."""
    if isinstance(error, OwnCodeError) and error.__cause__ is not None:
        error = error.__cause__  # raised within a network of the user's own, as by its batch norm
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in LOST)


def report_failure(run_dir: Path, rank: int, message: str, exit_code: int) -> None:
    """Record why this process fails, before its connections break."""
    write_json(run_dir / f".failed.{rank}.json", {"message": message, "exit_code": exit_code})


def clear_failures(run_dir: Path) -> None:
    """Delete the failure reports of an earlier session."""
    for path in run_dir.glob(".failed.*.json"):
        path.unlink(missing_ok=True)


def why_lost(run_dir: Path) -> NoduleDetError:
    """Return the error that another process reported, or a general one if none did."""
    for path in sorted(run_dir.glob(".failed.*.json")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            kind = ERRORS.get(report["exit_code"], TrainingError)
            return kind(f"process {path.name.split('.')[2]}: {report['message']}")
        except (ValueError, KeyError, TypeError):
            continue
    return TrainingError(
        "another process of this run ended without reporting why (killed, or out of memory?); see "
        "the output of torchrun.  The same command resumes from the last checkpoint"
    )
