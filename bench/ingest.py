"""Time and disk space of ingest for a scan of 512 x 512 x 300 voxels.

    python bench/ingest.py [--scans 3]

Makes phantom scans as MetaImage, reads each once (so that the files are in
memory, as on any second look), and ingests them in this process, bound to one core.  The stages are
timed on their own, in CPU seconds.  Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from nodule_det.config.data import DataConfig, PhantomConfig, StoreConfig
from nodule_det.data.ingest.ingest import ingest_scan
from nodule_det.data.ingest.keys import Keys
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.phantom.write import write_dataset
from nodule_det.data.preprocess.lungs import find_lungs
from nodule_det.data.preprocess.prepare import prepare
from nodule_det.data.readers.read import read_scan
from nodule_det.data.scan import ScanEntry

KEYS = Keys(bytes(32), anonymise=False)
SIZE_VOX = [300, 512, 512]
LUNA16_SCANS = 948
"""Scans of the published system's data set."""


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and CPU seconds of a piece of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(entry: ScanEntry, folder: Path) -> dict[str, Any]:
    """Ingest one scan, and its stages again one by one."""
    read_scan(entry.path, entry.series_uid)
    failures: list[object] = []
    task = partial(ingest_scan, entry, folder, StoreConfig(), KEYS)
    wall_s, cpu_s = seconds(lambda: failures.append(task()))
    if failures != [None]:
        raise SystemExit(f"error: {failures}")
    scan = read_scan(entry.path, entry.series_uid)
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "read_cpu_s": seconds(lambda: read_scan(entry.path, entry.series_uid))[1],
        "lungs_cpu_s": seconds(lambda: find_lungs(scan.volume_hu, scan.grid, "scan"))[1],
        "prepare_cpu_s": seconds(lambda: prepare(scan, StoreConfig()))[1],
        "volume_bytes": (folder / f"{entry.series_uid}.npy").stat().st_size,
        "json_bytes": (folder / f"{entry.series_uid}.json").stat().st_size,
        "spacing_mm": list(scan.grid.spacing_mm),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--source", type=Path, help="an existing data set, instead of phantoms")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        source = args.source or Path(name) / "source"
        if args.source is None:
            write_dataset(source, PhantomConfig(n_scans=args.scans, size_vox=SIZE_VOX), 1)
        store = Path(name) / "store"
        store.mkdir()
        entries = list_scans(DataConfig(source=str(source)))[: args.scans]
        rows = [measure(entry, store) for entry in entries]
        middle = {key: round(median(r[key] for r in rows), 2) for key in rows[0] if "_s" in key}
        size = median(r["volume_bytes"] + r["json_bytes"] for r in rows)
    result = {
        "machine": f"{platform.machine()}, {_processor()}, one core",
        "scans": rows,
        "median": middle,
        "bytes_per_scan": int(size),
        "gb_for_948_scans": round(size * LUNA16_SCANS / 1e9, 1),
    }
    print(json.dumps(result, indent=1))


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
