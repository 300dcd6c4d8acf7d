"""Built-in networks and others by the same three functions."""

import torch

from nodule_det.config.train import ModelConfig
from nodule_det.model.build import build_model, field_of, for_inference
from nodule_det.model.receptive_field import receptive_field

OWN = ModelConfig(
    factory="monai.networks.nets.BasicUNet",
    kwargs={"in_channels": 1, "out_channels": 1, "features": [2] * 6, "norm": "batch"},
)


def test_the_built_in_field_is_computed_and_another_measured():
    config = ModelConfig(depth=2, filters=4)
    assert field_of(build_model(config), config, 32) == receptive_field(config)
    found = field_of(build_model(OWN), OWN, 32)
    assert found.stride_vox == 16  # four poolings
    assert found.radius_vox % 16 == 0
    assert found.window_vox == 32


def test_the_inference_form_computes_the_same():
    x = torch.rand(1, 1, 32, 32, 32)
    for config in (ModelConfig(depth=2, filters=4), OWN):
        torch.manual_seed(0)
        model = build_model(config).eval()
        with torch.inference_mode():
            torch.testing.assert_close(for_inference(model, config)(x), model(x))
