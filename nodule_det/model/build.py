"""The network for the settings, built-in or the user's own, and its form for inference.

ModelConfig ──build_model()──▶ network ──for_inference()──▶ the same, faster
                                      └─field_of()──▶ ReceptiveField
"""

from __future__ import annotations

from torch import nn

from nodule_det.config.train import ModelConfig
from nodule_det.model.fused import fuse
from nodule_det.model.own import (
    build_own,
    finds_candidates,
    logits_in_full_precision,
    require_same_shape,
)
from nodule_det.model.probe import measure
from nodule_det.model.receptive_field import ReceptiveField, receptive_field
from nodule_det.model.unet import build_unet

UNKNOWN_BYTES = 64
"""Memory per voxel that is stored for networks that find their candidates themselves."""


def build_model(config: ModelConfig) -> nn.Module:
    """Build an untrained network; its weights come from torch's global generator.

    Returns:
        Module from (n, 1, z, y, x) float in [0, 1] to (n, 1, z, y, x) logits; z, y, x must be
        multiples of its stride.

    Raises:
        ConfigError: If ``model.factory`` does not return a network.
    """
    return build_own(config) if config.factory else build_unet(config)


def field_of(
    model: nn.Module, config: ModelConfig, patch_vox: int, batch_size: int = 2
) -> ReceptiveField:
    """Compute the receptive field of the built-in network, or measure that of another one.

    Args:
        model: The network, on the CPU.
        config: Its settings.
        patch_vox: Edge of the patches that it is trained on.
        batch_size: Patches of a training step.

    Raises:
        ConfigError: If the network does not map a patch to logits of the same shape.
    """
    if not config.factory:
        return receptive_field(config)
    if finds_candidates(model):  # it cuts scans itself, if at all
        return ReceptiveField(
            stride_vox=1,
            radius_vox=getattr(model, "reach_vox", None),
            window_vox=patch_vox,
            bytes_per_voxel=UNKNOWN_BYTES,
        )
    require_same_shape(model, config, patch_vox, batch_size)
    return measure(model, patch_vox)


def for_inference(model: nn.Module, config: ModelConfig) -> nn.Module:
    """Return a copy of a network for inference, fused if it is the built-in one.

    A network that finds its candidates itself is returned as it is.

    Args:
        model: Network in evaluation mode, in fp32.
        config: Its settings.
    """
    if finds_candidates(model):
        return model
    if config.factory:
        return logits_in_full_precision(model)
    return fuse(model)
