"""Where to compute, and in how many bits."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from nodule_det.config.train import Device, Precision
from nodule_det.errors import ConfigError

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Words of /proc/cpuinfo that stand for bf16 units; emulated, bf16 is slower than fp32."""


def choose_device(wanted: Device, *, local_rank: int = 0) -> torch.device:
    """Turn the setting into a device.

    Raises:
        ConfigError: If a GPU is asked for and none is there.
    """
    if wanted is Device.cpu or (wanted is Device.auto and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "device=cuda, but torch sees no GPU "
            f"(torch {torch.__version__}, CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}); use device=cpu or another torch"
        )
    return torch.device("cuda", local_rank)


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Turn the setting into the type of the forward pass.

    Raises:
        ConfigError: If fp16 is asked for on a CPU, which lacks the units and the loss scaling.
    """
    if wanted is Precision.fp16 and device.type == "cpu":
        raise ConfigError("precision=fp16 needs a GPU; use bf16 or fp32 on a CPU")
    if wanted is not Precision.auto:
        return {
            Precision.fp32: torch.float32,
            Precision.bf16: torch.bfloat16,
            Precision.fp16: torch.float16,
        }[wanted]
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Say whether this processor multiplies bf16 in hardware (Linux; elsewhere: no)."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    return any(
        BF16_FLAGS & set(line.split()) for line in info.read_text().splitlines() if "flags" in line
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell a full device from other failures; on a CPU torch has no type of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
