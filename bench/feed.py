"""Patches per second of the feed, compared with MONAI's dataset on the same volumes.

    python bench/feed.py [--scans 4] [--seconds 8]

Both make batches of 8 in one process, alternately, from the same volumes: ours from memory-mapped
files, MONAI's CacheDataset from arrays in memory, with RandCropByPosNegLabeld and RandRotate90d in
its three planes (as in MONAI's tutorials; ``tuned`` also caches the indices of lesion and
background and does not copy the cache).  Ours also makes the weights.  Only the ratios are
meaningful, since seconds depend on the machine.  Prints one JSON object.
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
    size_vox: tuple[int, int, int] = SIZE_VOX

    @property
    def grid(self) -> Grid:
        return Grid(self.size_vox, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))

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

    def search_mask(self) -> np.ndarray:
        return np.ones(self.size_vox, bool)

    def label_volume(self) -> np.ndarray:
        label = np.zeros(self.size_vox, np.uint8)
        for finding in self.findings:
            r = int(finding.diameter_mm / 2)
            x, y, z = (round(v) for v in finding.center_mm)
            label[z - r : z + r, y - r : y + r, x - r : x + r] = 1
        return label


def make_scans(folder: Path, n: int, size_vox: tuple[int, int, int] = SIZE_VOX) -> list[FileScan]:
    """Write scans of noise: the time of a cut does not depend on what is cut."""
    rng = np.random.default_rng(0)
    rim = min(size_vox) // 8 * 4  # of blocks without lung: two thirds of the scan are lung
    blocks = [max(1, (edge - 2 * rim) // 4) for edge in size_vox]
    corners = np.argwhere(np.ones(blocks, bool)) * 4 + rim
    low, high = min(size_vox) / 4, min(size_vox) * 3 / 4
    scans = []
    for i in range(n):
        path = folder / f"{i}.npy"
        np.save(path, rng.integers(-1000, 400, size_vox, dtype=np.int16))
        findings = tuple(
            Finding((float(x), float(y), float(z)), d)
            for (x, y, z), d in zip(rng.uniform(low, high, (2, 3)), (6.0, 15.0), strict=True)
        )
        scans.append(FileScan(path, findings, corners, size_vox))
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


def monai(
    scans: list[FileScan], size_vox: int, *, tuned: bool, workers: int = 0
) -> Callable[[], object]:
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
    items = [
        {"image": scan.volume()[None].astype(np.float32), "label": scan.label_volume()[None]}
        for scan in scans
    ]
    data = CacheDataset(items, transform, progress=False, copy_cache=not tuned)
    loader = DataLoader(data, batch_size=BATCH // per_scan, shuffle=True, num_workers=workers)
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
    warnings.simplefilter("ignore")  # MONAI's deprecation warnings
    with tempfile.TemporaryDirectory() as folder:
        results = list(compare(make_scans(Path(folder), args.scans), args.seconds))
    print(json.dumps({"processor": platform.processor(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
