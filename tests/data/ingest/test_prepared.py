"""A scan is read and prepared apart: a reader that kills its process costs one scan."""

import os
import signal

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, StoreConfig
from nodule_det.data.ingest.prepared import read_prepared, try_prepared
from nodule_det.data.ingest.workers import Apart, Crew, Died, why_died
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import ScanError
from tests.data.dicom_files import (
    LUNGS_ML,
    NODULE_MM,
    chest_hu,
    chest_series,
    save_series,
    world_grid,
)
from tests.data.mask_files import seg
from tests.data.scan_files import write_file


def test_lung_volumes_and_corrections_go_along(tmp_path):
    series = chest_series()
    for k, dataset in enumerate(series):
        dataset.ImagePositionPatient = [-190, -190 + 1.0 * k, -300 + 6 * k]
    save_series(series, tmp_path)
    prepared = read_prepared(ScanEntry("1.2.3.4", tmp_path, "p"), StoreConfig(spacing_mm=5))
    assert prepared.notes == ("gantry tilt of 9.5 degrees corrected",)
    assert sum(prepared.lung_ml) == pytest.approx(LUNGS_ML, rel=0.02)


def test_a_segmentation_of_the_series_becomes_its_lesion_labels(tmp_path):
    series = chest_series()
    save_series(series, tmp_path)
    x, y, z = world_grid()
    nodule = (x - NODULE_MM[0]) ** 2 + (y - NODULE_MM[1]) ** 2 + (z - NODULE_MM[2]) ** 2 < 8**2
    seg(series, nodule.astype(np.uint8)).save_as(tmp_path / "seg.dcm")
    (entry,) = list_scans(DataConfig(source=str(tmp_path)))
    (lesion,) = entry.findings
    np.testing.assert_allclose(lesion.center_mm, NODULE_MM, atol=2)  # half a voxel
    prepared = read_prepared(entry, StoreConfig(spacing_mm=4))
    center = prepared.grid.to_world(np.argwhere(prepared.labels).mean(axis=0))
    np.testing.assert_allclose(center, lesion.center_mm, atol=2)


def test_what_listing_found_wrong_is_the_reason(tmp_path):
    entry = ScanEntry("s", tmp_path, "p", problem="two scans are called s")
    error = try_prepared(entry, StoreConfig())
    assert isinstance(error, ScanError)
    assert str(error) == "two scans are called s"


def test_an_empty_lung_mask_is_refused(tmp_path):
    volume = chest_hu()
    scan, mask = (tmp_path / name for name in ("s.nii", "m.nii"))
    write_file(scan, volume)
    write_file(mask, np.zeros(volume.shape, np.uint8))
    with pytest.raises(ScanError, match=r"the lung mask of s is empty"):
        read_prepared(ScanEntry("s", scan, "p", lung_mask=mask), StoreConfig())


def crash_on_two(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return item * 10


def test_a_process_that_dies_is_replaced():
    apart = Apart(crash_on_two, Crew())
    assert apart(1) == 10
    died = apart(2)
    assert isinstance(died, Died)
    assert "ended by signal 11: a library crashed" in why_died(died)
    assert apart(3) == 30
