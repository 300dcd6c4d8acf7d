"""The fast form computes what the trained network computes."""

import itertools

import pytest
import torch
from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.model import build_model, fuse
from nodule_det.model.fused import DenseUpsampling, OneDnnConv


def trained(config, seed=0):
    """Return a network whose batch norms are no identity."""
    torch.manual_seed(seed)
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("depth", "kernel_size", "residual"), list(itertools.product((2, 4), (3, 5), (False, True)))
)
def test_fusing_changes_the_logits_by_rounding_only(depth, kernel_size, residual):
    model = trained(ModelConfig(depth=depth, filters=4, kernel_size=kernel_size, residual=residual))
    x = torch.rand(1, 1, 24, 16, 32)
    with torch.inference_mode():
        torch.testing.assert_close(fuse(model)(x), model(x), atol=2e-5, rtol=1e-5)


def test_the_weights_of_the_dense_form_are_copied_not_multiplied():
    layer = nn.ConvTranspose3d(3, 1, 5, 2, 2, output_padding=1)
    with torch.autocast("cpu", torch.bfloat16):  # products would be rounded, as by TF32 on a GPU
        dense = DenseUpsampling(layer)
    taps = layer.weight.flatten().tolist()
    assert dense.weight.shape == (8, 3, 3, 3, 3)
    assert sorted(dense.weight[dense.weight != 0].tolist()) == sorted(taps)


@pytest.mark.parametrize("residual", [False, True])
def test_a_network_at_full_resolution_is_fused_as_well(residual):
    model = trained(ModelConfig(depth=3, filters=3, residual=residual, full_resolution=True))
    x = torch.rand(1, 1, 8, 6, 10)
    with torch.inference_mode():
        torch.testing.assert_close(fuse(model)(x), model(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("depth", "kernel_size", "residual", "full_resolution"),
    [(2, 3, True, False), (3, 5, True, False), (3, 3, False, False), (3, 5, True, True)],
)
def test_computing_a_few_rows_at_a_time_changes_nothing(
    depth, kernel_size, residual, full_resolution, monkeypatch
):
    config = ModelConfig(
        depth=depth, filters=4, kernel_size=kernel_size, residual=residual,
        full_resolution=full_resolution,
    )  # fmt: skip
    model = trained(config)
    x = torch.rand(1, 1, 72, 16, 24)
    seen = []
    monkeypatch.setattr("nodule_det.model.fused.GROUP_BYTES", 1)  # groups as small as a margin
    fused = fuse(model)
    fused.model.down.block.register_forward_hook(lambda *call: seen.append(call[1][0].shape[2]))
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), model(x), atol=2e-5, rtol=1e-5)
    assert len(seen) > 8
    assert max(seen) <= 2 * 3 * 2 * (kernel_size // 2)  # a group and two margins, of two rows each


def test_a_convolution_by_onednn_is_the_one_of_torch_in_bf16_too():
    conv = nn.Conv3d(1, 3, 3, stride=2, padding=1)
    x = torch.rand(1, 1, 8, 10, 12)
    with torch.inference_mode():
        torch.testing.assert_close(OneDnnConv(conv)(x), conv(x))
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = OneDnnConv(conv)(x), conv(x)
    assert ours.dtype is theirs.dtype is torch.bfloat16
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)


def test_every_weight_is_channels_last_also_those_of_one_channel():
    fused = fuse(trained(ModelConfig(filters=4)))
    weights = [p for p in fused.parameters() if p.ndim == 5]
    assert len(weights) == 13
    assert any(1 in p.shape[:2] for p in weights)
    assert all(p.stride() == channels_last_strides(p.shape) for p in weights)


def channels_last_strides(shape):
    _, c, z, y, x = shape
    return (c * z * y * x, 1, y * x * c, x * c, c)


def test_no_batch_norm_is_left_and_the_original_is_untouched():
    model = trained(ModelConfig(filters=4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not any(isinstance(m, nn.BatchNorm3d) for m in fuse(model).modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_norms_that_several_gpus_shared_are_folded_as_well():
    model = trained(ModelConfig(filters=4))
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(trained(ModelConfig(filters=4)))
    x = torch.rand(1, 1, 8, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(fuse(synced)(x), model(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_dense_upsampling_is_the_transposed_convolution(kernel_size, channels):
    torch.manual_seed(0)
    half = kernel_size // 2
    layer = nn.ConvTranspose3d(5, channels, kernel_size, 2, half, output_padding=1).double()
    x = torch.rand(2, 5, 4, 3, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(DenseUpsampling(layer)(x), layer(x))


def test_other_strides_are_refused():
    with pytest.raises(ValueError, match="expected stride 2"):
        DenseUpsampling(nn.ConvTranspose3d(2, 1, 3, 4, 1))


def test_a_network_that_still_trains_is_refused():
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        fuse(build_model(ModelConfig(filters=4)).train())


@pytest.mark.parametrize("residual", [False, True])
def test_scores_of_a_bf16_pass_differ_from_voxel_to_voxel(residual):
    model = fuse(trained(ModelConfig(filters=4, residual=residual)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.rand(1, 1, 32, 32, 32))
    assert logits.dtype is torch.float32
    assert len(logits.unique()) > 0.9 * logits.numel()
