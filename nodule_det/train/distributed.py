"""The processes of one run: one alone, or those that ``torchrun`` started on a node.

torchrun --nproc_per_node=2 -m nodule_det.train ...  ──▶ World(rank, size) in each process
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from nodule_det.errors import TrainingError
from nodule_det.train.peers import lost_another

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """Which process this is, of how many.  Alone, every exchange is the value itself."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def first_of(self, word: str | None) -> str | None:
        """Return the word of the first process that has one: all get the same answer."""
        return next((said for said in self.gather(word) if said), None)

    def gather(self, item: Item) -> list[Item]:
        """Collect one item of each process, by rank, in every process."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        distributed.all_gather_object(items, item)
        return items

    def from_first(self, item: Item) -> Item:
        """Return what the first process holds."""
        if self.size == 1:
            return item
        items: list[Any] = [item]
        distributed.broadcast_object_list(items, src=0)
        return items[0]  # type: ignore[no-any-return]

    def share(self, amount: float) -> float:
        """Return this process's amount over the mean of all.

        A mean over a batch is the mean of the processes' means only when each is weighted by how
        much it was taken over.
        """
        amounts = self.gather(amount)
        total = sum(amounts)
        return amount * len(amounts) / total if total else 1.0

    def same_buffers(self, model: nn.Module) -> None:
        """Return all processes the first one's buffers: batch norm's running averages differ."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


@contextmanager
def world(device_type: str) -> Iterator[World]:
    """Join the other processes, if ``torchrun`` started any, and leave them at the end.

    Args:
        device_type: ``cuda`` talks by NCCL, with gloo for everything on the CPU; ``cpu`` by gloo.

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
    except RuntimeError as error:
        if not lost_another(error):
            raise
        raise TrainingError("another process of this run has failed; it says why") from error
    finally:
        distributed.destroy_process_group()
