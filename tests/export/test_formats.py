"""Networks written, opened again, and compared with the original."""

import numpy as np
import pytest
import torch

from nodule_det.config.export import Format
from nodule_det.config.train import ModelConfig
from nodule_det.errors import ConfigError
from nodule_det.export.formats import Exported, check, check_volume, opened, write
from nodule_det.model import ReceptiveField, build_model, field_of
from tests.data.dicom_files import chest_hu

ENDINGS = {Format.torchscript: ".ts", Format.torch_export: ".pt2", Format.onnx: ".onnx"}
UNET = ModelConfig(depth=3, filters=4, residual=True)
SEGRESNET = ModelConfig(
    factory="monai.networks.nets.SegResNet",
    kwargs={"out_channels": 1, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
)
WINDOWED = ReceptiveField(stride_vox=2, radius_vox=None, window_vox=32, bytes_per_voxel=700)


def exported(*configs):
    torch.manual_seed(0)
    return Exported([build_model(config) for config in configs]).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_written_network_computes_the_same_on_a_chest_of_another_size(kind, tmp_path):
    network, field = exported(UNET), field_of(None, UNET, 32)
    path = tmp_path / f"a{ENDINGS[kind]}"
    write(network, [field], kind, path)
    chest = chest_hu()[:, ::2, ::2][:, :, :40].astype(np.float32)  # (48, 48, 40)
    assert check(network, opened(kind, path), chest) <= 1e-4
    assert check(network, opened(kind, path), check_volume([field])) <= 1e-4


def test_a_network_of_unbounded_reach_is_written_for_its_window(tmp_path):
    network = exported(SEGRESNET)
    write(network, [WINDOWED], Format.onnx, tmp_path / "a.onnx")
    volume = check_volume([WINDOWED])
    assert volume.shape == (32, 32, 32)
    assert check(network, opened(Format.onnx, tmp_path / "a.onnx"), volume) <= 1e-4


def test_the_mean_of_two_members_is_the_mean_of_their_probabilities():
    both = exported(UNET, ModelConfig(depth=2, filters=4))
    x = torch.rand(1, 1, 16, 16, 16) * 1424 - 1024
    scaled = (x + 1024) / 1424
    expected = sum(torch.sigmoid(network(scaled)) for network in both.networks) / 2
    torch.testing.assert_close(both(x), expected)


def test_a_network_that_differs_is_refused(tmp_path):
    network = exported(UNET)
    volume = check_volume([field_of(None, UNET, 32)])
    with pytest.raises(
        ConfigError, match=r"differs from the original by 0\.5 in probability, more"
    ):
        check(network, lambda hu: network(torch.from_numpy(hu)).numpy() + 0.5, volume)


class Untraceable(torch.nn.Module):
    def forward(self, x):
        return x * float(torch.rand(()).item() > x.sum())


def test_a_network_that_torch_cannot_write_is_one_line(tmp_path):
    network = Exported([Untraceable()])
    with pytest.raises(
        ConfigError, match=r"cannot write this network as format=torch_export \("
    ) as e:
        write(network, [field_of(None, UNET, 32)], Format.torch_export, tmp_path / "a.pt2")
    assert "\n" not in str(e.value)
