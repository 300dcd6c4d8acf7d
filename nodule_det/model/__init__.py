"""The network, what it sees of a scan, and where it runs.

HU ──normalise()──▶ [0, 1] ──build_model(config), fuse()──▶ logits
"""

from nodule_det.model.device import (
    channels_last,
    choose_device,
    choose_precision,
    is_out_of_memory,
    job_memory_bytes,
    keep_freed_pages,
    release_freed_pages,
    set_up_backends,
)
from nodule_det.model.fused import fuse
from nodule_det.model.unet import build_model, stride
from nodule_det.model.window import WINDOW_HU, normalise

__all__ = [
    "WINDOW_HU",
    "build_model",
    "channels_last",
    "choose_device",
    "choose_precision",
    "fuse",
    "is_out_of_memory",
    "job_memory_bytes",
    "keep_freed_pages",
    "normalise",
    "release_freed_pages",
    "set_up_backends",
    "stride",
]
