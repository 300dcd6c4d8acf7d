"""The gather by hand: one patch whose every voxel is known.

That it equals the NumPy cutter for random patches is in ``test_device_cutter.py``.
"""

import numpy as np
import torch

from nodule_det.data.feed.augment import ORIENTATIONS, Rotation
from nodule_det.data.feed.batch import AIR_HU
from nodule_det.data.feed.gather import gather, make_table, outer_sum
from nodule_det.data.feed.plan import Samples

SIZE_VOX = (4, 5, 6)
VOXELS = torch.arange(4 * 5 * 6, dtype=torch.int16)


def patch(corner, rotation=ORIENTATIONS[0], size_vox=2):
    samples = Samples(
        np.array([0]), np.array([corner]), np.array([ORIENTATIONS.index(rotation)]),
        np.zeros((1, 3), np.float32),
    )  # fmt: skip
    sizes = np.array([SIZE_VOX])
    zero, pitch = np.zeros(1, np.int64), np.array([[30, 6, 1]])
    held = (zero, zero, pitch, np.zeros((1, 3), np.int64), sizes - 1)
    table = make_table(samples, held, sizes, ([], None), size_vox)
    return gather(table, VOXELS, None, size_vox)


def test_a_patch_inside_is_the_slice_itself():
    image = patch((1, 2, 3)).image_hu
    assert image.tolist() == [[[[[45, 46], [51, 52]], [[75, 76], [81, 82]]]]]


def test_a_quarter_turn_about_z_by_hand():
    quarter = Rotation((0, 2, 1), (False, True, False))
    image = patch((1, 2, 3), quarter).image_hu
    assert image.tolist() == [[[[[46, 52], [45, 51]], [[76, 82], [75, 81]]]]]


def test_outside_the_scan_is_air_that_does_not_count():
    batch = patch((3, 4, 5))
    assert batch.image_hu.flatten().tolist() == [119, *7 * [AIR_HU]]
    assert batch.weight.flatten().tolist() == [1, *7 * [0]]


def test_a_sum_over_three_axes_by_hand():
    parts = torch.tensor([[[100, 200], [10, 20], [1, 2]]])
    assert outer_sum(parts).flatten().tolist() == [111, 112, 121, 122, 211, 212, 221, 222]
