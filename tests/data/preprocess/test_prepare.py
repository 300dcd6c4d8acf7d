"""A scan is cropped to its lungs and resampled, by numbers that can be redone by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.config.data import StoreConfig
from nodule_det.data.preprocess.prepare import nearest, prepare
from nodule_det.data.scan import Finding, Scan
from nodule_det.errors import ScanError
from nodule_det.geometry import Grid

GRID = Grid((40, 40, 40), (2.0, 2.0, 2.0), (-30.0, 10.0, 100.0))
MASK = np.zeros(GRID.size_vox, np.uint8)
MASK[10:21, 10:21, 10:21] = 1  # voxels 10 ... 20
Z_HU = np.broadcast_to(np.arange(40, dtype=np.int16)[:, None, None] * 10, GRID.size_vox)
SCAN = Scan("1.2.3", np.array(Z_HU), GRID, notes=("a note of the reader",))
MM = StoreConfig(spacing_mm=1.0, margin_mm=4.0)


def test_the_box_is_the_mask_and_its_margin():
    found = prepare(SCAN, MM, mask=MASK)
    # 4 mm are 2 voxels: from 8 to 22, 28 mm, 29 voxels of 1 mm
    assert found.grid.size_vox == found.volume_hu.shape == found.lung.shape == (29, 29, 29)
    assert found.grid.spacing_mm == (1.0, 1.0, 1.0)
    assert found.grid.origin_mm == (-30 + 8 * 2, 10 + 8 * 2, 100 + 8 * 2)
    assert found.source_spacing_mm == (2.0, 2.0, 2.0)
    assert found.source_grid == GRID
    assert found.labels is None
    assert found.notes[0] == "a note of the reader"


def test_values_and_mask_stay_at_their_place():
    found = prepare(SCAN, MM, mask=MASK)
    np.testing.assert_allclose(found.volume_hu[:, 14, 14], 80 + 5 * np.arange(29), atol=1)
    inside = np.flatnonzero(found.lung[:, 14, 14])
    assert (inside[0], inside[-1]) == (4, 25)  # from voxel 10 to 20.5, of which the half goes down


def test_the_volume_of_each_lung_of_a_mask_is_counted():
    two = np.zeros_like(MASK)
    two[10:20, 10:20, 5:15] = 1  # x runs to the left, so this one is the right lung
    two[10:20, 10:20, 25:30] = 1
    # voxels of 8 mm3, 0.008 ml
    assert prepare(SCAN, MM, mask=two).lung_ml == pytest.approx((1000 * 0.008, 500 * 0.008))


def test_a_lesion_outside_the_lungs_widens_the_box_and_an_excluded_one_does_not():
    x, y, z = GRID.to_world((30, 15, 15)).tolist()
    lesion = Finding((x, y, z), 6.0)
    # voxel 30, 3 mm of radius and 8 mm around it: 35.5 voxels, so the box ends at voxel 36
    assert prepare(SCAN, MM, [lesion], mask=MASK).grid.size_vox == (2 * (36 - 8) + 1, 29, 29)
    excluded = Finding((x, y, z), 6.0, excluded=True)
    assert prepare(SCAN, MM, [excluded], mask=MASK).grid.size_vox == (29, 29, 29)


def test_labels_are_looked_up_and_never_mixed():
    labels = np.zeros(GRID.size_vox, np.uint8)
    labels[15], labels[16] = 3, 7
    found = prepare(SCAN, MM, mask=MASK, labels=labels)
    assert np.unique(found.labels).tolist() == [0, 3, 7]


def test_a_place_between_two_voxels_is_the_lower_one_whatever_the_last_digit():
    row = np.arange(4, dtype=np.uint8).reshape(1, 1, 4)
    for spacing in (1.0, 1.0 + 1e-9, 1.0 - 1e-9):
        grid = Grid((1, 1, 4), (1.0, 1.0, spacing), (0.0, 0.0, 0.0))
        target = Grid((1, 1, 7), (1.0, 1.0, 0.5), (0.0, 0.0, 0.0))
        assert nearest(row, (1, 1, 1), grid, target).ravel().tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_an_empty_mask_is_refused_by_the_name_of_the_scan():
    with pytest.raises(ScanError, match=r"the lung mask of 1\.2\.3 is empty"):
        prepare(SCAN, MM, mask=np.zeros_like(MASK))
