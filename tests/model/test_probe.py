"""The measured receptive field, against one that is known."""

import itertools

import pytest
import torch
from monai.networks.nets import AttentionUnet, DynUNet, SegResNet, UNet
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.errors import ConfigError
from nodule_det.model import build_model, receptive_field
from nodule_det.model.probe import measure

DYNUNET = {
    "spatial_dims": 3, "in_channels": 1, "out_channels": 1, "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [2, 4, 8],
}  # fmt: skip


def same(kernel, dilation=1, stride=1):
    padding = dilation * (kernel // 2)
    return nn.Conv3d(1, 1, kernel, stride=stride, padding=padding, dilation=dilation)


@pytest.mark.parametrize(
    ("kernel_size", "residual", "full_resolution"),
    list(itertools.product((3, 5), (False, True), (False, True))),
)
def test_the_built_in_network_measures_as_it_is_traced(kernel_size, residual, full_resolution):
    config = ModelConfig(
        depth=2, filters=2, kernel_size=kernel_size, residual=residual,
        full_resolution=full_resolution,
    )  # fmt: skip
    expected, found = receptive_field(config), measure(build_model(config), 32)
    assert (found.stride_vox, found.radius_vox) == (expected.stride_vox, expected.radius_vox)


def test_kernels_and_dilations_add_up():
    # 1 + 2 * 2 + 3 voxels either way
    assert measure(nn.Sequential(same(3), same(5, dilation=2), same(7)), 16).radius_vox == 8


def test_the_largest_reach_and_stride_of_the_three_axes_count():
    down = nn.Conv3d(1, 2, (1, 2, 4), stride=(1, 2, 4))
    up = nn.ConvTranspose3d(2, 1, (1, 2, 4), stride=(1, 2, 4))
    found = measure(nn.Sequential(nn.Conv3d(1, 1, (7, 1, 1), padding=(3, 0, 0)), down, up), 16)
    assert (found.stride_vox, found.radius_vox) == (4, 4)  # 3 along z and x, to a multiple of 4


def test_layers_that_start_at_zero_and_dead_units_are_seen_through():
    last = same(9)
    nn.init.zeros_(last.weight)
    first = same(3)
    nn.init.constant_(first.bias, -100.0)  # before a ReLU: no gradient at all
    network = nn.Sequential(first, nn.ReLU(), last)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert measure(network, 16).radius_vox == 1 + 4
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_batch_norm_keeps_the_reach_bounded_and_other_norms_do_not():
    bounded = measure(DynUNet(**DYNUNET, norm_name="batch"), 32)
    assert (bounded.stride_vox, bounded.radius_vox) == (4, 20)
    for unbounded in (
        DynUNet(**DYNUNET),
        SegResNet(init_filters=8, out_channels=1, blocks_down=(1, 1), blocks_up=(1,)),
        AttentionUnet(3, 1, 1, channels=(2, 4), strides=(2,)),
    ):
        found = measure(unbounded, 32)
        assert found.radius_vox is None
        assert found.window_vox == 32


def test_memory_grows_with_the_channels():
    narrow, wide = (
        measure(nn.Sequential(nn.Conv3d(1, c, 1), nn.Conv3d(c, 1, 1)), 16).bytes_per_voxel
        for c in (20, 200)
    )
    assert (narrow, wide) == (4 * 21, 4 * 201)


class Counted(nn.Module):
    """Adds to each voxel its own position, which no convolution can know."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * torch.linspace(0, self.gain.item(), x.shape[2])[:, None, None]


def test_a_network_that_does_not_follow_a_shift_is_refused():
    with pytest.raises(ConfigError, match="does not follow a shift of its input by 1, 2, 4"):
        measure(Counted(), 32)


def test_a_network_that_cannot_be_copied_is_refused():
    network = same(3)
    network.draws = (n for n in (1, 2))
    with pytest.raises(ConfigError, match=r"cannot be copied by copy\.deepcopy .TypeError: cannot"):
        measure(network, 16)


def test_sizes_must_be_multiples_of_32_if_the_network_halves_five_times():
    down = nn.Conv3d(1, 2, 32, stride=32)
    network = nn.Sequential(down, nn.ConvTranspose3d(2, 1, 32, stride=32))
    assert measure(network, 32).stride_vox == 32


def test_instance_norm_in_monais_unet_is_searched_by_windows():
    settings = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1, "channels": [2, 4]}
    fields = {n: measure(UNet(**settings, strides=[2], norm=n), 16) for n in ("batch", "instance")}
    assert fields["batch"].radius_vox == 4
    assert fields["instance"].radius_vox is None


class OnlyPatches(nn.Module):
    """Accepts one size."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(16, 16)

    def forward(self, x):
        if x.shape[2:] != (16, 16, 16):
            raise ValueError("16 only")
        return self.flat(x)


def test_a_network_for_one_size_of_patch_is_searched_by_windows_of_it():
    field = measure(OnlyPatches(), 16)
    assert (field.stride_vox, field.radius_vox, field.window_vox) == (16, None, 16)
    with pytest.raises(ConfigError, match="maps neither patches of 24 voxels nor blocks of 64 x 2"):
        measure(OnlyPatches(), 24)
