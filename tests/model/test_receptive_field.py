"""What is known of the built-in network's receptive field, and what cannot be one."""

import pytest

from nodule_det.config.train import ModelConfig
from nodule_det.model.receptive_field import ReceptiveField, reach_vox, receptive_field

BOUNDED = {"stride_vox": 4, "radius_vox": 12, "window_vox": 32, "bytes_per_voxel": 100}


def test_one_level_of_a_plain_unet_by_hand():
    # down by a kernel of 3 at stride 2, a bottom kernel of 3, up by a transposed kernel of 3:
    # output 1 takes cells 0 and 1; those see cells -1 to 2; cell 2 sees voxels 3 to 5: 4 away
    config = ModelConfig(depth=2, kernel_size=3, residual=False)
    assert reach_vox(config) == 4
    assert receptive_field(config).radius_vox == 4
    assert receptive_field(config).stride_vox == 2


def test_more_filters_and_full_resolution_need_more_memory():
    few = receptive_field(ModelConfig(filters=8)).bytes_per_voxel
    many = receptive_field(ModelConfig(filters=16)).bytes_per_voxel
    full = receptive_field(ModelConfig(filters=16, full_resolution=True)).bytes_per_voxel
    assert (few, many, full) == (36 + 2 * 8, 36 + 2 * 16, 36 + 2 * 16 + 12 * 16)


@pytest.mark.parametrize(
    "wrong",
    [{"stride_vox": 0}, {"stride_vox": 1.5}, {"radius_vox": -4}, {"radius_vox": 10},
     {"window_vox": True}, {"bytes_per_voxel": 0}, {"window_vox": 2**50}],
)  # fmt: skip
def test_a_field_that_no_network_has_is_refused(wrong):
    ReceptiveField(**BOUNDED)
    with pytest.raises(ValueError, match=r"receptive field|multiple of the stride"):
        ReceptiveField(**BOUNDED | wrong)
