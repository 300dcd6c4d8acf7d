"""A store of phantoms that the tests of this directory share."""

import numpy as np
import pytest
from scipy import ndimage

from nodule_det.config.data import PhantomConfig
from nodule_det.data.phantom.make import make_scan
from nodule_det.data.scan import Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, open_store, write_info, write_scan
from nodule_det.files import write_json
from nodule_det.geometry import Grid


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Two phantom scans of 2 mm in a store, as ingest would leave them."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "scans").mkdir()
    write_info(folder, StoreInfo({"spacing_mm": 2.0}))
    uids = []
    for seed in (1, 2):
        scan, findings = make_scan(seed, PhantomConfig(size_vox=[96, 128, 128], nodules_per_scan=6))
        zoom = np.array(scan.grid.spacing_mm) / 2.0
        volume = ndimage.zoom(scan.volume_hu, zoom, order=1, grid_mode=True, mode="nearest")
        origin_mm = scan.grid.to_world((1 / zoom - 1) / 2)  # the outer faces stay where they are
        grid = Grid(volume.shape, (2.0, 2.0, 2.0), tuple(origin_mm.tolist()))
        dark, _ = ndimage.label(volume < -400)
        lung = ndimage.binary_closing((dark > 0) & (dark != dark[0, 0, 0]), iterations=4)
        write_scan(
            folder / "scans",
            ScanEntry(scan.series_uid, folder, scan.series_uid, tuple(findings)),
            Prepared(volume, grid, lung, None, scan.grid.spacing_mm),
        )
        uids.append(scan.series_uid)
    write_json(folder / "splits.json", {"folds": dict.fromkeys(uids, 0)})
    return open_store(folder)
