"""Checks of a LUNA16 store before the first training, and of the centres after it.

    python bench/luna16.py STORE [run=RUN_FOLDER]

The first part counts the nodules inside the lungs, of all scans and of the eleven whose images run
backwards in x and y; the second the distance of found nodules from their candidates, by size.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from nodule_det.data.store import Store, open_store
from nodule_det.evaluate.reading import read_job
from nodule_det.runs import RunFolder

BACKWARDS = (
    "085629", "111877", "162930", "322775", "390311", "426689", "532320", "537053", "697221",
    "817499", "851615",
)  # fmt: skip
"""Last digits of the series UIDs."""
SIZES_MM = (0.0, 6.0, 8.0, 15.0, np.inf)


def inside(store: Store) -> list[str]:
    """Count the nodules whose centre is searched, in all scans and in the backward ones."""
    scans = [*store.scans, *store.test]
    backwards = [scan for scan in scans if scan.series_uid.endswith(BACKWARDS)]
    lines = []
    for name, some in (("all scans", scans), ("backward scans", backwards)):
        searched = [scan.is_searched(f) for scan in some for f in scan.lesions]
        lines.append(
            f"{name}: {len(some)}, nodules inside the lungs {sum(searched)} of {len(searched)}"
        )
    lines += [
        f"outside: {scan.series_uid} at {f.center_mm}, {f.diameter_mm:.1f} mm"
        for scan in scans
        for f in scan.lesions
        if not scan.is_searched(f)
    ]
    return lines


def centres(run: RunFolder) -> list[str]:
    """List the median distance of each found nodule from its nearest candidate, by size."""
    job = read_job(run.candidates, run.annotations, run.scans, run.excluded)
    nearest = []
    for case, center, diameter in zip(
        job.lesions.case, job.lesions.world_mm, job.lesions.diameter_mm, strict=True
    ):
        near = job.candidates.world_mm[job.candidates.case == case]
        away = np.linalg.norm(near - center, axis=1).min(initial=np.inf)
        nearest.append(away if away <= diameter / 2 else np.nan)
    distance, size = np.array(nearest), job.lesions.diameter_mm
    lines = []
    for low, high in pairwise(SIZES_MM):
        of_size = distance[(size >= low) & (size < high)]
        found = of_size[np.isfinite(of_size)]
        median = f"{np.median(found):.2f} mm" if len(found) else "-"
        lines.append(f"{low:g}-{high:g} mm: {len(found)} of {len(of_size)} found, median {median}")
    return lines


def main(words: list[str]) -> None:
    runs = [word.removeprefix("run=") for word in words if word.startswith("run=")]
    stores = [word for word in words if not word.startswith("run=")]
    if len(stores) != 1:
        raise SystemExit("usage: python bench/luna16.py STORE [run=RUN_FOLDER]")
    print("\n".join(inside(open_store(stores[0]))))
    for run in runs:
        print("\n".join(centres(RunFolder(Path(run)))))


if __name__ == "__main__":
    main(sys.argv[1:])
