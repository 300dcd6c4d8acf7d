"""Phantom scans as files: what was written is what a reader reads."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.config.data import FileFormat
from nodule_det.data.phantom.images import image_name, write_image
from nodule_det.data.readers.read import read_scan
from nodule_det.data.scan import Scan
from nodule_det.geometry import Grid

UID = "1.2.826.0.1.3680043.8.498.1"
GRID = Grid((6, 16, 20), (2.0, 0.75, 0.75), (-7.5, -60.0, 100.0))


def scan():
    rng = np.random.default_rng(0)
    return Scan(UID, rng.integers(-1000, 400, GRID.size_vox, dtype=np.int16), GRID)


@pytest.mark.parametrize("file_format", FileFormat)
def test_every_format_keeps_voxels_and_place(tmp_path, file_format):
    path = tmp_path / image_name(UID, file_format)
    write_image(scan(), path, file_format)
    back = read_scan(path, UID)
    np.testing.assert_array_equal(back.volume_hu, scan().volume_hu)
    corner = [5, 15, 19]
    np.testing.assert_allclose(back.grid.to_world(corner), GRID.to_world(corner), atol=1e-3)


@pytest.mark.parametrize("file_format", FileFormat)
def test_the_same_scan_gives_the_same_bytes_and_no_other_file(tmp_path, file_format):
    def written(folder):
        folder.mkdir()
        write_image(scan(), folder / image_name(UID, file_format), file_format)
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    first = written(tmp_path / "a")
    assert first == written(tmp_path / "b")
    assert not [path for path in first if path.name.startswith(".")]
