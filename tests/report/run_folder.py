"""A run folder and its store as a training leaves them, small enough to look at in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from nodule_det.data.scan import Finding, Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, write_info, write_scan
from nodule_det.files import write_json, write_text
from nodule_det.geometry import Grid
from nodule_det.runs import RunFolder
from nodule_det.tables import ANNOTATION_COLUMNS, CANDIDATE_COLUMNS, DIAMETER, SERIES, write_table

GRID = Grid((64, 72, 80), (1.0, 1.0, 1.0), (10.0, 20.0, 30.0))
SOURCE = {"1.2.0": Grid((40, 512, 512), (2.5, 0.7, 0.7), (-150.0, -150.0, 5.0))}
"""Grids of the source series.  The store of scan 1.2.1 is of a version that did not keep them."""
LESIONS = {"1.2.0": [((30, 30, 30), 8.0), ((40, 50, 60), 5.0)], "1.2.1": [((20, 40, 40), 30.0)]}
CANDIDATES = {
    "1.2.0": [((30, 31, 30), 0.9, 7.0), ((10, 10, 10), 0.7, 4.0), ((50, 10, 60), 0.2, 4.0)],
    "1.2.1": [((22, 40, 40), 0.8, 20.0), ((60, 60, 60), 0.95, 6.0)],
}
"""Two hits, one lesion missed, three false positives; (z, y, x) voxels."""


def world(voxel, grid=GRID):
    return tuple(grid.to_world(voxel).tolist())


def draw(uid):
    volume = np.full(GRID.size_vox, -850, np.int16)
    z, y, x = np.indices(GRID.size_vox)
    for (cz, cy, cx), diameter in LESIONS.get(uid, ()):
        volume[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < (diameter / 2) ** 2] = 40
    return volume


def make_run(root: Path, origin_mm=GRID.origin_mm, n_healthy: int = 0) -> RunFolder:
    """Write the store and the run, and return the run.

    Scans without a lesion or a candidate can be added: five scans or more have CIs.
    """
    uids = [*LESIONS, *(f"9.{k}" for k in range(n_healthy))]
    grid = replace(GRID, origin_mm=origin_mm)
    store, folder = root / "store", RunFolder(root / "run")
    folder.path.mkdir(parents=True)
    (store / "scans").mkdir(parents=True)
    write_info(store, StoreInfo({"spacing_mm": 1.0, "margin_mm": 12.0}))
    for uid in uids:
        lesions = tuple(Finding(world(v, grid), d) for v, d in LESIONS.get(uid, ()))
        write_scan(
            store / "scans",
            ScanEntry(uid, root, uid, lesions),
            Prepared(
                draw(uid),
                grid,
                np.ones(GRID.size_vox, bool),
                None,
                (1.0, 1.0, 1.0),
                source_grid=SOURCE.get(uid),
            ),
        )
    write_json(store / "splits.json", {"how": {}, "folds": dict.fromkeys(uids, 0)})
    _write_tables(folder, grid, uids)
    settings = {"store": str(store), "seed": 0, "validation": {"bootstrap": 200}}
    write_text(folder.config, yaml.safe_dump(settings))
    write_text(folder.command, "python -m nodule_det.train\n")
    write_json(folder.environment, {"commit": None})
    return folder


def _write_tables(folder: RunFolder, grid: Grid, uids: list[str]) -> None:
    write_table(folder.scans, [SERIES], [[uid] for uid in uids])
    write_table(
        folder.annotations,
        (*ANNOTATION_COLUMNS, "texture"),
        [
            (uid, *world(v, grid), d, "</script>solid")
            for uid, rows in LESIONS.items()
            for v, d in rows
        ],
    )
    write_table(folder.excluded, ANNOTATION_COLUMNS, [])
    write_table(
        folder.candidates,
        (*CANDIDATE_COLUMNS, DIAMETER),
        [(uid, *world(v, grid), s, d) for uid, rows in CANDIDATES.items() for v, s, d in rows],
    )
