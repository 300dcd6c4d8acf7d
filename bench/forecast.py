"""Accuracy of the memory prediction: training steps on a CPU against ``forecast/cost.py``.

    python bench/forecast.py [--points 12] [--seed 0] [--precision bf16]

Random points of ``conf/space/nomura.yaml`` are each trained for two steps in a separate process,
whose peak memory the system reports.  Points above --gflop per step are skipped to save time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

import numpy as np

from nodule_det.config.train import Precision, TrainConfig
from nodule_det.forecast.cost import footprint
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.training.check import with_params

ROW = "{:>3} {:>5} {:>7} {:>6} {:>8} {:>5} {:>7} {:>6} {:>6}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--gflop", type=float, default=400.0)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(settings(args.precision, json.loads(args.measure))))
        return
    space, rng = read_space("nomura"), np.random.default_rng(args.seed)
    errors = []
    heads = ("W", "depth", "filters", "kernel", "residual", "batch", "MB est.", "MB", "error")
    print(ROW.format(*heads))
    while len(errors) < args.points:
        params = space.sample(rng)
        train = settings(args.precision, params)
        needs = footprint(train, gpu=False)
        if needs.operations_per_step > args.gflop * 1e9:
            continue
        words = ["--precision", args.precision, "--measure", json.dumps(params)]
        done = subprocess.run(
            [sys.executable, __file__, *words], capture_output=True, text=True, check=True
        )
        peak = int(done.stdout.split()[-1])
        errors.append(needs.memory_bytes / peak - 1)
        m, edge, batch = train.model, train.patches.size_vox, train.optim.batch_size
        words = [str(w) for w in (edge, m.depth, m.filters, m.kernel_size, m.residual, batch)]
        predicted, found = f"{needs.memory_bytes / 1e6:.0f}", f"{peak / 1e6:.0f}"
        print(ROW.format(*words, predicted, found, f"{errors[-1]:+.0%}"), flush=True)
    print(f"error {min(errors):+.0%} to {max(errors):+.0%}, median {np.median(errors):+.0%}")


def settings(precision: str, params: dict[str, float]) -> TrainConfig:
    return with_params(TrainConfig(precision=Precision(precision)), params)


def measure(train: TrainConfig) -> int:
    """Train for two steps as the train command does; returns the peak memory of the process."""
    import torch

    from nodule_det.model import build_model, choose_precision, normalise
    from nodule_det.model.device import keep_freed_pages
    from nodule_det.train.losses import detection_loss

    keep_freed_pages()
    torch.manual_seed(0)
    device = torch.device("cpu")
    dtype = choose_precision(train.precision, device)
    model = build_model(train.model).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    shape = (train.optim.batch_size, 1, *3 * (train.patches.size_vox,))
    for _ in range(2):
        image = normalise(torch.randint(-1000, 400, shape, dtype=torch.int16))
        target, weight = (torch.rand(shape) < 0.001).float(), torch.ones(shape)
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            logits = model(image.contiguous(memory_format=torch.channels_last_3d))
        loss = detection_loss(logits, target, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
