"""Summary of a store: numbers as JSON, and a figure.

scans/*.json, splits.json ──write_summary()──▶ summary.json, summary.png
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.data.store import Store, open_store
from nodule_det.files import replacing, write_json
from nodule_det.progress import counted

HU_BINS = np.arange(-1024, 1025, 32)
SIZE_BINS = np.arange(0, 42, 2)
HU_STEP = 101
"""Every n-th voxel is counted; n is prime, so that it does not align with rows."""
MOST_SCANS_READ = 64
"""Largest number of scans, evenly spread, that are read for the HU histogram."""

INK, ACCENT = "#333333", "#0072b2"


def write_summary(path: Path, failures: dict[str, str]) -> dict[str, Any]:
    """Write and return the summary of a store, including the scans that failed."""
    store = open_store(path)
    summary = summarise(store) | {"failures": failures}
    write_json(path / "summary.json", summary)
    _draw(summary, path / "summary.png")
    return summary


def summarise(store: Store) -> dict[str, Any]:
    """Return the statistics of a store."""
    diameters = [f.diameter_mm for s in store.scans for f in s.lesions]
    step = max(1, len(store.scans) // MOST_SCANS_READ)
    counts = sum(
        (
            np.histogram(scan.volume().ravel()[::HU_STEP], HU_BINS)[0]
            for scan in store.scans[::step]
        ),
        np.zeros(len(HU_BINS) - 1, int),
    )
    return {
        "n_scans": len(store.scans),
        "n_lesions": len(diameters),
        "n_excluded": sum(f.excluded for s in store.scans for f in s.findings),
        "lesions_outside_lungs": _unsearched(store),
        "lung_ml": {s.series_uid: list(s.lung_ml) for s in store.scans},
        "notes": {s.series_uid: list(s.notes) for s in store.scans if s.notes},
        "spacing_mm": store.spacing_mm,
        "size_vox_median": [
            int(v) for v in np.median([s.grid.size_vox for s in store.scans] or [(0, 0, 0)], 0)
        ],
        "bytes": sum(2 * int(np.prod(s.grid.size_vox)) for s in store.scans),
        "source_spacing_mm": [list(s.source_spacing_mm) for s in store.scans],
        "diameter_mm": sorted(diameters),
        "scans_per_fold": dict(sorted(Counter(str(s.fold) for s in store.scans).items())),
        "lesions_per_fold": dict(
            sorted(Counter(str(s.fold) for s in store.scans for _ in s.lesions).items())
        ),
        "hu_bins": HU_BINS.tolist(),
        "hu_counts": counts.tolist(),
    }


def _unsearched(store: Store) -> dict[str, int]:
    """Count lesions that cannot be found, because they lie more than a block outside the lungs."""
    counts = {
        s.series_uid: sum(not s.is_searched(lesion) for lesion in s.lesions) for s in store.scans
    }
    return {uid: n for uid, n in counts.items() if n}


def _draw(summary: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    figure.suptitle(
        ", ".join(counted(summary[f"n_{what}s"], what) for what in ("scan", "lesion")), color=INK
    )
    (spacing, hu), (size, folds) = figure.subplots(2, 2)
    source = np.array(summary["source_spacing_mm"]).reshape(-1, 3)
    spacing.plot(source[:, 2], source[:, 0], "o", ms=4, alpha=0.6, color=ACCENT)
    spacing.set(xlabel="pixel, mm", ylabel="slice distance, mm", title="spacing of the sources")
    hu.stairs(summary["hu_counts"], summary["hu_bins"], fill=True, color=ACCENT)
    hu.set(xlabel="HU", yticks=[], title="voxels of the store")
    size.hist(np.minimum(summary["diameter_mm"], SIZE_BINS[-1]), bins=SIZE_BINS, color=ACCENT)
    size.set(
        xlabel=f"diameter, mm (the last bar: {SIZE_BINS[-2]} and more)",
        ylabel="lesions",
        title="size of lesions",
    )
    names = list(summary["scans_per_fold"])
    place = np.arange(len(names))
    scans = folds.bar(
        place - 0.2, [summary["scans_per_fold"][n] for n in names], 0.4, color="#bbbbbb"
    )
    lesions = folds.bar(
        place + 0.2, [summary["lesions_per_fold"].get(n, 0) for n in names], 0.4, color=ACCENT
    )
    folds.bar_label(scans)
    folds.bar_label(lesions)
    folds.margins(y=0.12)
    folds.set(xlabel="fold", title="scans (grey) and lesions (blue) per fold", yticks=[])
    folds.set_xticks(place, names)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
