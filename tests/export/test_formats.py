"""Networks written, opened again, and compared with the original."""

import numpy as np
import pytest
import torch

from nodule_det.checkpoint import load_model
from nodule_det.config.export import Format
from nodule_det.config.train import ModelConfig
from nodule_det.data.readers.read import read_scan
from nodule_det.ensemble.folder import named_model
from nodule_det.errors import ConfigError
from nodule_det.export.formats import Exported, check, check_volume, middle, opened, write
from nodule_det.model import ReceptiveField, build_model, field_of
from tests.data.dicom_files import chest_hu

ENDINGS = {Format.torchscript: ".ts", Format.torch_export: ".pt2", Format.onnx: ".onnx"}
NODULE_MM = (-57.4, 131.2, -520.4)
"""The annotated nodule of LIDC-IDRI-0314."""
UNET = ModelConfig(depth=3, filters=4, residual=True)
SEGRESNET = ModelConfig(
    factory="monai.networks.nets.SegResNet",
    kwargs={"out_channels": 1, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
)
WINDOWED = ReceptiveField(stride_vox=2, radius_vox=None, window_vox=32, bytes_per_voxel=700)


def exported(*configs):
    torch.manual_seed(0)
    return Exported([build_model(config) for config in configs]).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=ENDINGS)
def builtin(request, tmp_path_factory):
    """Write the built-in model in a format; returns the original, the written one and the field."""
    model, meta = load_model(named_model("builtin", ()).members[0])
    network = Exported([model]).eval().requires_grad_(False)
    path = tmp_path_factory.mktemp("builtin") / f"a{ENDINGS[request.param]}"
    write(network, [meta.receptive_field], request.param, path)
    return network, opened(request.param, path), meta.receptive_field


def test_a_written_network_computes_the_same_on_a_chest_of_another_size(builtin):
    network, run, field = builtin
    chest = chest_hu()[:, ::2, ::2][:, :, :40].astype(np.float32)  # (48, 48, 40)
    assert check(network, run, chest) <= 1e-4
    assert check(network, run, check_volume([field])) <= 1e-4


def test_a_written_network_computes_the_same_on_a_real_scan(builtin, real_slices):
    network, run, _ = builtin
    scan = read_scan(real_slices)
    z, y, x = np.rint(scan.grid.to_voxel(np.array(NODULE_MM))).astype(int)
    lung = scan.volume_hu[z - 20 : z + 20, y - 48 : y + 48, x - 56 : x + 56]
    volume = np.ascontiguousarray(lung, np.float32)
    with torch.inference_mode():
        assert network(torch.from_numpy(volume[None, None]))[0, 0, 20, 48, 56] > 0.5
    assert check(network, run, volume) <= 1e-4


def test_a_network_of_unbounded_reach_is_written_for_its_window(tmp_path):
    network = exported(SEGRESNET)
    write(network, [WINDOWED], Format.onnx, tmp_path / "a.onnx")
    volume = check_volume([WINDOWED])
    assert volume.shape == (32, 32, 32)
    assert check(network, opened(Format.onnx, tmp_path / "a.onnx"), volume) <= 1e-4


def test_the_middle_of_a_scan_has_a_size_that_the_network_accepts():
    field = field_of(None, UNET, 32)  # a stride of 4
    volume = np.arange(9 * 10 * 402).reshape(9, 10, 402)
    np.testing.assert_array_equal(middle(volume, [field]), volume[:8, 1:9, 121:281])
    windowed = middle(np.zeros((40, 32, 50), np.int16), [WINDOWED, field])
    assert windowed.shape == (32, 32, 32)
    with pytest.raises(ConfigError, match=r"has \(40, 20, 50\) voxels .* blocks of \[32, 32, 32\]"):
        middle(np.zeros((40, 20, 50), np.int16), [WINDOWED])
    with pytest.raises(ConfigError, match="too few for a network"):
        middle(np.zeros((3, 20, 50), np.int16), [field])


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
