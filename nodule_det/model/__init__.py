"""The network, what it sees of a scan, and where it runs.

HU ──normalise()──▶ [0, 1] ──build_model(config), fuse()──▶ logits
"""

from nodule_det.model.device import choose_device, choose_precision, is_out_of_memory
from nodule_det.model.fused import fuse
from nodule_det.model.unet import build_model, stride
from nodule_det.model.window import WINDOW_HU, normalise

__all__ = [
    "WINDOW_HU",
    "build_model",
    "choose_device",
    "choose_precision",
    "fuse",
    "is_out_of_memory",
    "normalise",
    "stride",
]
