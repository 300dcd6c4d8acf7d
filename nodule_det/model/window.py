"""What a network sees of Hounsfield units, in training and in inference alike."""

from __future__ import annotations

from torch import Tensor

WINDOW_HU = (-1024.0, 400.0)
"""Air, which also stands for what lies outside a scan, becomes 0: the value that a padded
convolution sees beyond its border.  Above 400 HU there is only bone and metal."""


def normalise(volume_hu: Tensor) -> Tensor:
    """Map HU of any type and shape to float32 in [0, 1]."""
    low, high = WINDOW_HU
    return (volume_hu.float().clamp(low, high) - low) / (high - low)
