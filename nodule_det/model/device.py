"""Device, precision and memory of computations."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from nodule_det.config.train import Device, Precision
from nodule_det.errors import ConfigError, DeviceMemoryError

BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags in /proc/cpuinfo of processors with bf16 units.  Emulated, bf16 is slower than fp32."""

SLOW_CUDNN = (90800, 91500)
"""cuDNN versions from the first up to but not including the second: torch does not use them for
contiguous bf16 and fp16 3-D convolutions (pytorch issues 166122, 174051), and the fallback is 4
to 20 times slower."""

NO_TF32_CUDNN = (91002, 91600)
"""cuDNN versions for which torch computes 3-D convolutions in plain fp32, because their TF32
kernel was wrong (pytorch issue 167024)."""

FIRST_BF16 = (8, 0)
"""Compute capability (Ampere) of the first GPUs with bf16 units."""

OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Messages of a CPU's allocator, and of what takes GPU memory without torch's allocator."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of glibc's ``mallopt`` (malloc.h)."""

LARGE_BLOCK_BYTES = 32 << 20
"""Blocks from this size on are returned to the system at once during inference: the largest value
that glibc takes, and the largest whole tensors of a scan are above it."""

MOST_MAPS = 65_536
"""glibc's default for ``M_MMAP_MAX``."""

log = logging.getLogger(__name__)


def choose_device(wanted: Device, *, local_rank: int = 0) -> torch.device:
    """Return the device for the setting.

    Raises:
        ConfigError: If a GPU is requested that torch cannot see, or this build of torch has no
            kernels for it.
    """
    if wanted is Device.cpu or (wanted is Device.auto and not torch.cuda.is_available()):
        return torch.device("cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device=cuda, but torch sees no GPU (torch {torch.__version__}, "
            f"CUDA_VISIBLE_DEVICES={visible}); use device=cpu or another torch"
        )
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this node has no GPU: torch sees {torch.cuda.device_count()} "
            f"(CUDA_VISIBLE_DEVICES={visible}); start fewer processes or request more GPUs"
        )
    device = torch.device("cuda", local_rank)
    capability = torch.cuda.get_device_capability(device)
    built_for = torch.cuda.get_arch_list()
    if not has_kernels(built_for, capability):
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)} has compute capability "
            f"{capability[0]}.{capability[1]}, for which torch {torch.__version__} has no kernels "
            f"({' '.join(built_for)}); install a torch built for CUDA 12.6, which has those of "
            "older GPUs, or a newer one for a newer GPU, or use device=cpu"
        )
    return device


def has_kernels(built_for: Sequence[str], capability: tuple[int, int]) -> bool:
    """Return whether a build of torch runs on a GPU.

    Args:
        built_for: As ``torch.cuda.get_arch_list`` returns them: ``sm_XY`` runs on compute
            capability X.Y and later minor versions, ``compute_XY`` on all later ones.
        capability: Of the GPU.

    Example:
        >>> [has_kernels(["sm_75", "sm_80"], c) for c in ((6, 0), (7, 5), (8, 9), (9, 0))]
        [False, True, True, False]
    """
    known = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name) for name in built_for]
    if None in known:  # another kind of GPU
        return True
    return any(
        (int(arch[2]), int(arch[3])) <= capability
        and (arch[1] == "compute" or int(arch[2]) == capability[0])
        for arch in known
        if arch is not None
    )


def choose_precision(wanted: Precision, device: torch.device) -> torch.dtype:
    """Return the type of the forward pass for the setting.

    Raises:
        ConfigError: If fp16 is requested on a CPU, which lacks the units and the loss scaling, or
            bf16 on a GPU whose convolutions do not have it.
    """
    if wanted is Precision.fp16 and device.type == "cpu":
        raise ConfigError("precision=fp16 needs a GPU; use bf16 or fp32 on a CPU")
    on_gpu = device.type == "cuda"
    native = on_gpu and torch.cuda.get_device_capability(device) >= FIRST_BF16
    if wanted is Precision.bf16 and on_gpu and not native:
        raise ConfigError(
            f"precision=bf16 needs a GPU of compute capability 8.0 (Ampere) or later, but "
            f"{torch.cuda.get_device_name(device)} is older; use precision=fp16 or auto"
        )
    if wanted is not Precision.auto:
        return {
            Precision.fp32: torch.float32,
            Precision.bf16: torch.bfloat16,
            Precision.fp16: torch.float16,
        }[wanted]
    if on_gpu:
        return torch.bfloat16 if native else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Return whether this processor multiplies bf16 in hardware (Linux only; False elsewhere)."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    return any(
        BF16_FLAGS & set(line.split()) for line in info.read_text().splitlines() if "flags" in line
    )


def set_up_backends(device: torch.device, dtype: torch.dtype) -> None:
    """Choose the fast kernels of a GPU, and log what its cuDNN is known to do slowly.

    TF32 for what stays fp32, and cuDNN's own search for the fastest kernel of each shape.  That
    search may choose differently in the next process, so a run on a GPU repeats to rounding only.
    """
    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    version = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
    log.info("%s, cuDNN %d", torch.cuda.get_device_name(device), version)
    for warning in cudnn_warnings(version, dtype):
        log.warning("%s", warning)


@contextmanager
def without_kernel_search() -> Iterator[None]:
    """Within this, let cuDNN choose convolution kernels by its rules instead of trying them.

    A training has one shape, for which a search pays.  Every scan has another one, and trying up to
    ten kernels for each of its layers takes longer than the scan.
    """
    searched = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = searched


def cudnn_warnings(version: int, dtype: torch.dtype) -> list[str]:
    """Return what is slow in a version of cuDNN, such as 91002 for 9.10.2.

    Example:
        >>> cudnn_warnings(92000, torch.bfloat16)
        []
    """
    said = f"cuDNN {version // 10000}.{version // 100 % 100}.{version % 100}"
    found = []
    if SLOW_CUDNN[0] <= version < SLOW_CUDNN[1] and dtype is not torch.float32:
        found.append(
            f"{said} is not used for contiguous 3-D convolutions in {dtype}: layers that are not "
            "channels-last run 4 to 20 times slower; install a torch with cuDNN 9.15 or later"
        )
    if NO_TF32_CUDNN[0] <= version < NO_TF32_CUDNN[1] and dtype is torch.float32:
        found.append(
            f"{said} has no usable TF32 for 3-D convolutions: precision=fp32 is plain fp32 here; "
            "use precision=bf16 or fp16, or a torch with cuDNN 9.16 or later"
        )
    return found


def channels_last(model: nn.Module) -> nn.Module:
    """Lay out every 5-D weight of a network channels-last, in place.

    ``Module.to(memory_format=...)`` also changes weights with a single input or output channel,
    which ``Tensor.contiguous(memory_format=...)`` leaves as they are because both layouts hold
    their values in the same order.  Convolution kernels are chosen by the strides, not the order.
    """
    if any(tensor.dim() == 4 for tensor in (*model.parameters(), *model.buffers())):
        return model  # torch refuses to lay out 4-D weights, which own networks may have
    return model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means out of memory; torch has no separate type for it on a CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(phrase in str(error) for phrase in OUT_OF_MEMORY)


@contextmanager
def memory_errors(message: str) -> Iterator[None]:
    """Convert out-of-memory errors into a DeviceMemoryError that names what to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(message) from error


def keep_freed_pages() -> None:
    """Make glibc reuse freed memory instead of returning it to the system.

    A training step repeatedly frees and allocates the same hundreds of megabytes.  Getting them
    from the kernel, page by page, takes a quarter of a step at 64^3 patches.  The process keeps its
    peak memory until :func:`release_freed_pages`.  Without glibc this does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Within this, return what :func:`keep_freed_pages` keeps, and large blocks once they are free.

    Scans differ in size, so the blocks of one do not fit the holes that another left, and a
    validation of 40 small scans grew to 4 GB.  On glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    release_freed_pages()
    libc.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
    libc.mallopt(M_MMAP_MAX, MOST_MAPS)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 0)
        release_freed_pages()


def release_freed_pages() -> None:
    """Return freed memory to the system once, such as that of a validation (glibc only)."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def job_memory_bytes(
    proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return how much memory this job may use, or None if unknown.

    This is the smallest of the limits of its control groups (versions 1 and 2, set by batch systems
    and containers) and the available memory of the machine.
    """
    found = list(_cgroup_limits(proc, cgroups))
    meminfo = proc / "meminfo"
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    return min(found, default=None)


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control groups and of those above them."""
    member = proc / "self/cgroup"
    if not member.exists():
        return
    for line in member.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == root.parent:
                break
            limit = folder / name
            if limit.exists() and (text := limit.read_text().strip()).isdigit():
                yield int(text)
