"""Masks in blocks: packed and unpacked, grown, and refused when they are damaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nodule_det.data.blocks import block_shape, dense, expand, grown, mostly, pack, unpack
from nodule_det.errors import StoreError


@given(arrays.arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)))
def test_a_packed_mask_is_unpacked_as_it_was(blocks):
    assert (unpack(pack(blocks), blocks.shape) == blocks).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-4],
        lambda text: "!" + text,
        lambda text: "",
        lambda text: "AAAA" + text,
        lambda text: "Müller",
    ],
)
def test_a_damaged_mask_is_refused(damage):
    text = pack(np.ones((3, 4, 5), bool))
    with pytest.raises(StoreError, match="ingest the scan again"):
        unpack(damage(text), (3, 4, 5))


@pytest.mark.parametrize("shape", [(3, 4, 6), (30, 40, 50), (1, 1, 1)])
def test_a_mask_of_another_size_is_refused(shape):
    with pytest.raises(StoreError, match="does not have"):
        unpack(pack(np.ones((3, 4, 5), bool)), shape)


def test_blocks_cover_a_volume_whose_size_is_not_a_multiple_of_a_block():
    assert block_shape((16, 17, 19)) == (4, 5, 5)
    assert expand(np.ones((4, 5, 5), bool), (16, 17, 19)).shape == (16, 17, 19)


def test_a_block_counts_as_lung_when_more_than_half_of_it_is():
    mask = np.zeros((4, 4, 8), bool)
    mask[:2, :, :4] = True  # exactly half
    mask[:3, :, 4:] = True
    assert mostly(mask).tolist() == [[[False, True]]]


def test_a_block_is_dense_when_one_voxel_exceeds_minus_600_hu():
    volume = np.full((4, 4, 8), -600, np.int16)
    volume[1, 2, 5] = -599
    assert dense(volume).tolist() == [[[False, True]]]


def test_a_mask_grows_by_one_block_in_every_direction():
    blocks = np.zeros((5, 5, 5), bool)
    blocks[2, 2, 2] = True
    assert grown(blocks, (20, 20, 20)).sum() == 12**3
    assert grown(blocks, (14, 14, 14)).sum() == 10**3  # cut by the end of the volume
