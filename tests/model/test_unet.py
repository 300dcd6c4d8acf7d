"""The network: every architecture of the search space runs, and starts where it should."""

import itertools

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.model import build_model, stride

BEYOND = [
    ModelConfig(depth=6, filters=1),
    ModelConfig(depth=2, filters=7, full_resolution=True),
    ModelConfig(depth=5, filters=3, kernel_size=5, residual=False, full_resolution=True),
]
CORNERS = [
    ModelConfig(depth=depth, filters=filters, kernel_size=kernel_size, residual=residual)
    for depth, filters, kernel_size, residual in itertools.product(
        (2, 3, 4), (4, 32), (3, 5), (False, True)
    )
]


def name(config):
    kind = "residual" if config.residual else "plain"
    full = "-full" if config.full_resolution else ""
    return f"{config.depth}-{config.filters}-{config.kernel_size}-{kind}{full}"


@pytest.mark.parametrize("config", CORNERS + BEYOND, ids=name)
def test_every_corner_of_the_space_gives_one_logit_per_voxel(config):
    n = stride(config)
    with torch.inference_mode():
        out = build_model(config).eval()(torch.rand(2, 1, 2 * n, n, 3 * n))
    assert out.shape == (2, 1, 2 * n, n, 3 * n)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(("depth", "voxels"), [(2, 2), (3, 4), (4, 8), (6, 32)])
def test_the_stride_is_two_for_every_level_after_the_first(depth, voxels):
    assert stride(ModelConfig(depth=depth)) == voxels
    assert stride(ModelConfig(depth=depth, full_resolution=True)) == voxels // 2


@pytest.mark.parametrize("residual", [False, True])
def test_at_full_resolution_the_first_level_works_on_single_voxels(residual):
    model = build_model(ModelConfig(filters=4, residual=residual, full_resolution=True))
    shapes = []
    first = next(m for m in model.modules() if isinstance(m, nn.Conv3d) and m.in_channels == 1)
    first.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    assert model(torch.rand(1, 1, 8, 4, 6)).shape == (1, 1, 8, 4, 6)
    assert shapes == [(1, 4, 8, 4, 6)]


@pytest.mark.parametrize("residual", [False, True])
def test_an_untrained_network_says_that_nodules_are_rare(residual):
    torch.manual_seed(0)
    model = build_model(ModelConfig(filters=8, residual=residual))
    probability = torch.sigmoid(model(torch.rand(2, 1, 16, 16, 16)))
    assert 0.001 < probability.median() < 0.05


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(7)
    one = build_model(ModelConfig()).state_dict()
    torch.manual_seed(7)
    other = build_model(ModelConfig()).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("residual", [False, True])
def test_it_has_the_layers_and_names_of_monais_unet(residual):
    ours = build_model(ModelConfig(depth=3, filters=8, kernel_size=5, residual=residual))
    theirs = UNet(
        spatial_dims=3, in_channels=1, out_channels=1, channels=(8, 16, 32), strides=(2, 2),
        kernel_size=5, up_kernel_size=5, num_res_units=2 if residual else 0,
        act="relu", norm="batch",
    )  # fmt: skip
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


def test_no_layer_looks_at_the_statistics_of_its_own_input_once_trained():
    model = build_model(ModelConfig()).eval()
    norms = {type(m) for m in model.modules() if "Norm" in type(m).__name__}
    assert norms == {nn.BatchNorm3d}


@pytest.mark.parametrize("residual", [False, True])
def test_every_parameter_gets_a_gradient(residual):
    torch.manual_seed(0)
    model = build_model(ModelConfig(depth=4, filters=4, residual=residual))
    model(torch.rand(2, 1, 32, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
