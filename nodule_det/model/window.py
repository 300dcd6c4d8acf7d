"""Conversion of Hounsfield units to network inputs, for training and inference."""

from __future__ import annotations

from torch import Tensor

WINDOW_HU = (-1024.0, 400.0)
"""Range of HU that is mapped to [0, 1].  Air, also used outside a scan, becomes 0, the value with
which convolutions are padded.  Above 400 HU there is only bone and metal."""


def normalise(volume_hu: Tensor) -> Tensor:
    """Map HU of any type and shape to float32 in [0, 1]."""
    low, high = WINDOW_HU
    within = volume_hu.float().clamp(low, high)  # a new tensor: the rest may happen in place
    return within.sub_(low).div_(high - low)
