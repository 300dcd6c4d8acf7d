"""How many patches a second the feed makes, beside MONAI's dataset on the same volumes.

    python bench/feed.py [--scans 4] [--seconds 8]

Both make batches of 8 in one process, in turns, from the same volumes: ours from memory-mapped
files, MONAI's CacheDataset from arrays held in memory, with RandCropByPosNegLabeld and
RandRotate90d in its three planes (as in MONAI's tutorials; ``tuned`` also caches the indices of
lesion and background and leaves out the copy of the cache).  Ours also makes the weights.
Trust the ratios: seconds depend on the machine.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from nodule_det.config.train import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from nodule_det.data.feed.feed import Feed
from nodule_det.data.scan import Finding
from nodule_det.geometry import Grid

SIZE_VOX = (280, 320, 320)
BATCH = 8
ROUNDS = 3


@dataclass(frozen=True)
class FileScan:
    """A scan in a memory-mapped file, with two lesions and an index of lung in its middle."""

    path: Path
    findings: tuple[Finding, ...]
    blocks: np.ndarray

    @property
    def grid(self) -> Grid:
        return Grid(SIZE_VOX, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

    @property
    def series_uid(self) -> str:
        return self.path.stem

    def volume(self) -> Any:
        return np.load(self.path, mmap_mode="r")

    def labels(self) -> None:
        return None

    def lung_blocks(self) -> np.ndarray:
        return self.blocks

    def vessel_blocks(self) -> np.ndarray:
        return self.blocks


def make_scans(folder: Path, n: int) -> list[FileScan]:
    """Write scans of noise: the time of a cut does not depend on what is cut."""
    rng = np.random.default_rng(0)
    corners = np.argwhere(np.ones((50, 60, 60), bool)) * 4 + 40
    scans = []
    for i in range(n):
        path = folder / f"{i}.npy"
        np.save(path, rng.integers(-1000, 400, SIZE_VOX, dtype=np.int16))
        findings = tuple(
            Finding((float(x), float(y), float(z)), d)
            for (x, y, z), d in zip(rng.uniform(70, 210, (2, 3)), (6.0, 15.0), strict=True)
        )
        scans.append(FileScan(path, findings, corners))
    return scans


def ours(scans: list[FileScan], size_vox: int) -> Callable[[], object]:
    """Return a function that makes the next batch of our feed, in its thread."""
    config = TrainConfig(
        patches=PatchConfig(size_vox=size_vox, per_epoch=4096),
        optim=OptimConfig(batch_size=BATCH),
        augment=AugmentConfig(copies=1),
    )
    feed = Feed(scans, config)
    return itertools.chain.from_iterable(map(feed.batches, itertools.count())).__next__


def monai(scans: list[FileScan], size_vox: int, *, tuned: bool) -> Callable[[], object]:
    """Return a function that makes the next batch of MONAI's dataset."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import (
        Compose,
        FgBgToIndicesd,
        RandCropByPosNegLabeld,
        RandRotate90d,
        ScaleIntensityRanged,
    )

    keys, per_scan = ["image", "label"], BATCH // min(len(scans), 2)
    indices = {"fg_indices_key": "label_fg_indices", "bg_indices_key": "label_bg_indices"}
    transform = Compose(
        [
            ScaleIntensityRanged("image", -1000, 400, 0, 1, clip=True),
            *([FgBgToIndicesd("label")] if tuned else []),
            RandCropByPosNegLabeld(
                keys, "label", 3 * (size_vox,), num_samples=per_scan, **(indices if tuned else {})
            ),
            *(RandRotate90d(keys, 0.5, spatial_axes=plane) for plane in ((0, 1), (1, 2), (0, 2))),
        ]
    )
    items = []
    for scan in scans:
        label = np.zeros((1, *SIZE_VOX), np.uint8)
        for finding in scan.findings:
            r = int(finding.diameter_mm / 2)
            x, y, z = (round(v) for v in finding.center_mm)
            label[0, z - r : z + r, y - r : y + r, x - r : x + r] = 1
        items.append({"image": scan.volume()[None].astype(np.float32), "label": label})
    data = CacheDataset(items, transform, progress=False, copy_cache=not tuned)
    loader = DataLoader(data, batch_size=BATCH // per_scan, shuffle=True)
    return itertools.chain.from_iterable(iter(loader) for _ in itertools.count()).__next__


def rate(make_batch: Callable[[], object], seconds: float) -> float:
    """Count patches a second, after two batches to warm up."""
    for _ in range(2):
        make_batch()
    start, n = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        make_batch()
        n += BATCH
    return n / (time.perf_counter() - start)


def compare(scans: list[FileScan], seconds: float) -> Iterator[dict[str, object]]:
    """Measure all feeds for both patch sizes, interleaved."""
    for size_vox in (64, 32):
        feeds = {
            "ours": ours(scans, size_vox),
            "monai tutorial": monai(scans, size_vox, tuned=False),
            "monai tuned": monai(scans, size_vox, tuned=True),
        }
        rates: dict[str, list[float]] = {name: [] for name in feeds}
        for _ in range(ROUNDS):
            for name, feed in feeds.items():
                rates[name].append(rate(feed, seconds / ROUNDS))
        middle = {name: median(values) for name, values in rates.items()}
        yield {
            "size_vox": size_vox,
            "patches_per_s": {name: round(value, 1) for name, value in middle.items()},
            "ratio": {n: round(middle["ours"] / v, 1) for n, v in middle.items() if n != "ours"},
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scans", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each feed and patch size")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # MONAI's deprecations are not what is measured
    with tempfile.TemporaryDirectory() as folder:
        results = list(compare(make_scans(Path(folder), args.scans), args.seconds))
    print(json.dumps({"processor": platform.processor(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
