"""Whole-scan inference, ours against MONAI's sliding windows: time, peak memory, difference.

    python bench/inference.py [--size 96 160 160] [--filters 16] [--rounds 2] [--threads 1]

One untrained network (batch norms warmed up) computes one volume of noise in every way, in
interleaved rounds of one process.  The reference is one pass of that network over the whole volume.
Seconds are CPU time, and every ratio is MONAI's default divided by the row.  Only the ratios are
meaningful, since seconds depend on the machine.  The peak is the memory that one pass adds to a
separate process.  Needs Linux.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import platform
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from numpy.typing import NDArray
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.inference import predict_volume
from nodule_det.model import build_model, fuse, normalise, reach_vox, receptive_field

CPU = torch.device("cpu")
WINDOW_VOX = 64
SLAB_ROWS = 32
"""Rows of a slab's core in the way that must cut the volume; the others need one slab for it."""
DEFAULT = "MONAI, overlap .25"

Probability = NDArray[np.float32]
Way = Callable[[], Probability]


def warmed_up(config: ModelConfig) -> nn.Module:
    """Build a network whose batch norms have seen noise, and whose output spreads."""
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, 1, 32, 32, 32))
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
        convolutions[-1].weight.mul_(5)
    return model.eval()


def in_one_pass(model: nn.Module, volume: NDArray[np.int16]) -> Probability:
    """Compute the whole volume at once, with nothing of ours."""
    with torch.inference_mode():
        x = normalise(torch.from_numpy(volume))[None, None]
        return np.asarray(torch.sigmoid(model(x)[0, 0]).numpy())


def ways_of(config: ModelConfig, volume: NDArray[np.int16]) -> tuple[nn.Module, dict[str, Way]]:
    """Return the network and the ways to compute the volume."""
    model = warmed_up(config)
    fused = fuse(model)

    def monais(**options: Any) -> Way:
        windows = SlidingWindowInferer(3 * (WINDOW_VOX,), 1, **options)

        def run() -> Probability:
            with torch.inference_mode():
                x = normalise(torch.from_numpy(volume))[None, None]
                return np.asarray(torch.sigmoid(windows(x, model)[0, 0]).numpy())

        return run

    def ours(network: nn.Module, dtype: torch.dtype, most: int | None = None) -> Way:
        return lambda: (
            predict_volume(
                network, receptive_field(config), volume, device=CPU, dtype=dtype, max_voxels=most
            ).probability
        )

    slab = (SLAB_ROWS + 2 * reach_vox(config)) * math.prod(volume.shape[1:])
    return model, {
        DEFAULT: monais(overlap=0.25),
        "MONAI, overlap .5, gaussian": monais(overlap=0.5, mode="gaussian"),
        "ours, network as trained": ours(model, torch.float32),
        "ours, fused": ours(fused, torch.float32),
        f"ours, fused, slabs of {SLAB_ROWS}": ours(fused, torch.float32, slab),
        "ours, fused, bf16": ours(fused, torch.bfloat16),
    }


def added_bytes(way: Way) -> int:
    """Measure by how much one pass raises the peak of a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_measure, args=(way, theirs))
    child.start()
    theirs.close()
    value = int(ours.recv())
    child.join()
    return value


def _measure(way: Way, connection: Connection) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _status("VmRSS")
    way()
    connection.send(_status("VmHWM") - before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def compare(size_vox: list[int], config: ModelConfig, rounds: int, threads: int) -> dict[str, Any]:
    """Measure all ways in turn; the first round only warms up."""
    volume = np.random.default_rng(0).integers(-1024, 400, size_vox, dtype=np.int16)
    for way in ways_of(config, volume[:32, :32, :32])[1].values():
        way()  # memory that a process allocates only once
    model, ways = ways_of(config, volume)
    peak = {name: added_bytes(way) for name, way in ways.items()}  # before threads are started
    torch.set_num_threads(threads)
    truth = in_one_pass(model, volume)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    furthest: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            out = way()
            seconds[name].append(time.process_time() - start)
            furthest[name] = float(np.abs(out - truth).max())
    torch.set_num_threads(1)
    spent = {name: median(each[1:]) for name, each in seconds.items()}
    return {
        name: {
            "cpu_s": round(spent[name], 3),
            "ratio": round(spent[DEFAULT] / spent[name], 2),
            "peak_mb": round(peak[name] / 1e6),
            "peak_bytes_per_voxel": round(peak[name] / math.prod(size_vox)),
            "largest_difference": float(f"{furthest[name]:.1e}"),
        }
        for name in ways
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=[96, 160, 160])
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "size_vox": given.size,
        "filters": given.filters,
        "rounds": given.rounds,
        "threads": given.threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    for kind, residual in (("plain", False), ("residual", True)):
        config = ModelConfig(filters=given.filters, residual=residual)
        result[kind] = compare(given.size, config, given.rounds, given.threads)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
