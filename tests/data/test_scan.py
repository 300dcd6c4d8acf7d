"""Hounsfield units of any number type become int16 within a CT's range."""

import numpy as np
import pytest

from nodule_det.data.scan import MAX_HU, MIN_HU, Finding, to_hu
from nodule_det.errors import ScanError


def test_values_are_rounded_to_the_nearest_even_and_clipped():
    hu = to_hu(np.array([-5000.0, -1024.4, -0.6, 0.5, 1.5, 3071.4, 1e30]), "a.nii")
    assert hu.dtype == np.int16
    assert hu.tolist() == [-1024, -1024, -1, 0, 2, 3071, 3071]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_integers_of_every_width_are_clipped_and_do_not_wrap_around(kind):
    limits = np.iinfo(kind)
    hu = to_hu(np.array([limits.min, 0, limits.max], kind), "a.nii")
    assert hu.dtype == np.int16
    assert hu.tolist() == [max(limits.min, MIN_HU), 0, min(limits.max, MAX_HU)]


def test_voxels_that_are_not_numbers_are_counted():
    values = np.zeros((2, 3, 4), np.float32)
    values[0, 1, :2] = np.nan, np.inf
    with pytest.raises(ScanError, match=r"a\.nii has 2 NaN or infinite voxels"):
        to_hu(values, "a.nii")


def test_the_values_that_were_read_are_left_as_they_are():
    values = np.array([-3000.0, 0.6])
    to_hu(values, "a.nii")
    assert values.tolist() == [-3000.0, 0.6]


def test_findings_do_not_share_their_attributes():
    one, other = Finding((0, 0, 0), 5.0), Finding((0, 0, 0), 5.0)
    one.attributes["texture"] = "solid"
    assert other.attributes == {}
