"""Processor time of a training step: ours, and the same network in MONAI's usual fp32 loop.

    python bench/train.py [--sizes 64 32] [--filters 16] [--rounds 5] [--threads 1]

Both do steps on one batch in memory, in turns, in one process: ours as the training loop does them
(precision=auto, channels-last, fused Adam, our loss); MONAI's as in its tutorials (fp32, contiguous
weights, Adam, DiceCELoss, `loss.item()` in each step).  Feeds are compared by ``bench/feed.py``.
Trust the ratios: seconds depend on the machine.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gpu import BATCH, Bench, config_of, feed_of, stepping, trainer_of

from nodule_det.config.train import TrainConfig
from nodule_det.data.feed.batch import Batch
from nodule_det.model import build_model, keep_freed_pages, normalise

STEPS = 2
"""Steps of each way in a round."""


def monai_step(config: TrainConfig, batch: Batch) -> Callable[[], object]:
    """Return MONAI's usual step: fp32, Dice and cross-entropy, Adam, the loss read each time."""
    from monai.losses import DiceCELoss

    torch.manual_seed(0)
    model = build_model(config.model)
    optimizer = torch.optim.Adam(model.parameters(), config.optim.lr)
    loss_of = DiceCELoss(sigmoid=True)
    label = (batch.target > 0.5).float()

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(normalise(batch.image_hu)), label)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def compare(bench: Bench, size_vox: int, filters: int, rounds: int) -> dict[str, Any]:
    """Measure both in turns; the first round warms up."""
    config = config_of(filters, size_vox)
    feed = feed_of(bench, config)
    batch = feed.batch(0, 0)
    ways = {
        "ours": stepping(trainer_of(bench, config, feed), itertools.repeat(batch)),
        "monai": monai_step(config, batch),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, step in ways.items():
            start = time.process_time()
            for _ in range(STEPS):
                step()
            spent[name].append((time.process_time() - start) / STEPS)
    ratios = [m / o for o, m in zip(spent["ours"][1:], spent["monai"][1:], strict=True)]
    return {
        "size_vox": size_vox,
        "filters": filters,
        "batch": BATCH,
        **{f"{name}, cpu_s a step": round(median(each[1:]), 4) for name, each in spent.items()},
        "ratio": round(median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in sorted(ratios)],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--filters", type=int, nargs="+", default=[16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # MONAI's deprecations are not what is measured
    torch.set_num_threads(options.threads)
    keep_freed_pages()
    with tempfile.TemporaryDirectory() as folder:
        settings = argparse.Namespace(device="cpu", quick=True, seconds=600.0, out=None)
        bench = Bench(settings, Path(folder))
        rows = [
            compare(bench, size_vox, filters, options.rounds)
            for size_vox, filters in itertools.product(options.sizes, options.filters)
        ]
        about = {
            "torch": torch.__version__,
            "precision": str(bench.dtype).removeprefix("torch."),
            "threads": options.threads,
            "processor": platform.processor() or platform.machine(),
        }
    print(json.dumps({**about, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
