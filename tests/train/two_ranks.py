"""Run by torchrun in test_distributed.py: what two processes agree on, written as JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings

import torch
from torch import nn

from nodule_det.data.feed.feed import Feed
from nodule_det.data.store import open_store
from nodule_det.model import channels_last, normalise
from nodule_det.train.distributed import World, distributed_over, world
from nodule_det.train.losses import detection_loss
from tests.train.tiny_run import tiny

CPU = torch.device("cpu")


def gradient(model: nn.Module, forward: nn.Module, batch, share: float = 1.0) -> list[float]:
    """Return the gradient of the loss, all weights in a row."""
    image, target, weight = batch.parts()
    model.zero_grad()
    (share * detection_loss(forward(normalise(image)), target, weight)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).tolist()


def agreed_on(feed: Feed, processes: World) -> dict[str, object]:
    """Return what the processes share; nothing of torch's outlives this."""
    torch.manual_seed(processes.rank)  # other weights in each process: DDP makes them one
    # as in a residual U-Net: weights with axes of length 1, in both layouts at once
    layers = [nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 4, 1), nn.Conv3d(4, 1, 1)]
    model = channels_last(nn.Sequential(*layers))
    forward = distributed_over(model, CPU, processes)
    half = feed.batch(0, 0, rank=processes.rank, world_size=2)
    counted = (half.weight > 0).sum().float()
    share = 2 * float(counted / processes.total(counted))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        part = gradient(model, forward, half, share)
    whole = gradient(model, model, feed.batch(0, 0))
    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(processes.rank + 5.0)
    processes.same_buffers(norm)
    return {
        "gradients": processes.gather(part),
        "warnings": processes.gather([str(warning.message) for warning in warned]),
        "whole": whole,
        "means": processes.gather(norm.running_mean.item()),
        "word": processes.first_of("late" if processes.rank else None),
        "from_first": processes.gather(processes.from_first(processes.rank + 7)),
    }


def main(store: str, out: str) -> None:
    config = tiny(store, out)
    feed = Feed(open_store(store).training(0), config)
    with world("cpu") as processes:
        shared = agreed_on(feed, processes)
        if processes.first:
            with open(out, "w") as f:
                json.dump(shared, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
    # gloo's threads may still let go of tensors when the interpreter has ended, which aborts the
    # process now and then (pytorch issue 65231): end before it does.
    os._exit(0)
