"""Cubes cut by NumPy."""

import numpy as np

from nodule_det.data.feed.batch import AIR_HU
from nodule_det.data.feed.cutter import cut, odd_pitched
from tests.data.memory_scan import noise


def test_a_cut_inside_is_the_slice_itself():
    volume = noise(size_vox=(40, 41, 42))
    out = odd_pitched(32)
    assert cut(volume, (3, 4, 5), out, AIR_HU)
    np.testing.assert_array_equal(out, volume[3:35, 4:36, 5:37])


def test_a_cut_beyond_all_faces_is_padded():
    volume = noise(size_vox=(40, 41, 42))
    padded = np.pad(volume, 40, constant_values=AIR_HU)
    for corner in [(-5, 20, 30), (30, -31, 0), (-40, 0, 0), (41, 41, 41)]:
        out = odd_pitched(32)
        assert not cut(volume, corner, out, AIR_HU)
        z, y, x = (c + 40 for c in corner)
        expected = np.full((32, 32, 32), AIR_HU, np.int16)
        found = padded[z : z + 32, y : y + 32, x : x + 32]
        expected[: found.shape[0], : found.shape[1], : found.shape[2]] = found
        np.testing.assert_array_equal(out, expected)
