"""The network, what it sees of a scan, and where it runs.

HU ──normalise()──▶ [0, 1] ──build_model(config), for_inference()──▶ logits
"""

from nodule_det.model.build import build_model, field_of, for_inference
from nodule_det.model.device import (
    channels_last,
    choose_device,
    choose_precision,
    is_out_of_memory,
    job_memory_bytes,
    keep_freed_pages,
    large_blocks_returned,
    memory_errors,
    release_freed_pages,
    set_up_backends,
    without_kernel_search,
)
from nodule_det.model.fused import fuse
from nodule_det.model.own import finds_candidates, require_same_shape
from nodule_det.model.own_detector import OwnDetector, own_code
from nodule_det.model.receptive_field import ReceptiveField, reach_vox, receptive_field
from nodule_det.model.unet import stride
from nodule_det.model.window import WINDOW_HU, normalise

__all__ = [
    "WINDOW_HU",
    "OwnDetector",
    "ReceptiveField",
    "build_model",
    "channels_last",
    "choose_device",
    "choose_precision",
    "field_of",
    "finds_candidates",
    "for_inference",
    "fuse",
    "is_out_of_memory",
    "job_memory_bytes",
    "keep_freed_pages",
    "large_blocks_returned",
    "memory_errors",
    "normalise",
    "own_code",
    "reach_vox",
    "receptive_field",
    "release_freed_pages",
    "require_same_shape",
    "set_up_backends",
    "stride",
    "without_kernel_search",
]
