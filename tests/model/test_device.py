"""Where to compute, and in how many bits."""

import platform
import subprocess
import sys

import pytest
import torch

from nodule_det.config.train import Device, ModelConfig, Precision
from nodule_det.errors import ConfigError, DeviceMemoryError
from nodule_det.model import (
    build_model,
    channels_last,
    choose_device,
    choose_precision,
    is_out_of_memory,
    job_memory_bytes,
    memory_errors,
)
from nodule_det.model.device import cpu_has_bf16, cudnn_warnings, set_up_backends

CPU = torch.device("cpu")


def test_cpu_is_cpu():
    assert choose_device(Device.cpu) == CPU


def test_auto_takes_a_gpu_where_there_is_one():
    assert choose_device(Device.auto).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match=r"device=cuda, but torch sees no GPU .*device=cpu"):
        choose_device(Device.cuda)


def test_half_precision_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="precision=fp16 needs a GPU; use bf16 or fp32"):
        choose_precision(Precision.fp16, CPU)


@pytest.mark.parametrize(
    ("wanted", "dtype"), [(Precision.fp32, torch.float32), (Precision.bf16, torch.bfloat16)]
)
def test_what_is_asked_for_is_taken(wanted, dtype):
    assert choose_precision(wanted, CPU) is dtype


def test_auto_takes_bf16_only_where_the_processor_has_units_for_it():
    expected = torch.bfloat16 if cpu_has_bf16() else torch.float32
    assert choose_precision(Precision.auto, CPU) is expected


def test_a_full_memory_is_told_from_other_failures():
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 60)
    assert is_out_of_memory(full.value)
    with pytest.raises(RuntimeError) as other:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_out_of_memory(other.value)


@pytest.mark.parametrize(
    "message", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"]
)
def test_a_full_gpu_is_recognised_where_torch_has_no_type_for_it(message):
    with pytest.raises(DeviceMemoryError, match="lower this"), memory_errors("lower this"):
        raise RuntimeError(message)


@pytest.fixture
def gpu(monkeypatch):
    """Return a function that makes torch report a GPU."""

    def report(capability, built_for=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")):
        for name, value in {
            "is_available": True, "device_count": 1, "get_arch_list": list(built_for),
            "get_device_capability": capability, "get_device_name": "Tesla",
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
        return torch.device("cuda", 0)

    return report


@pytest.mark.parametrize("wanted", [Device.auto, Device.cuda])
def test_a_gpu_for_which_torch_has_no_kernels_is_refused(gpu, wanted):
    gpu((6, 0))  # P100
    with pytest.raises(
        ConfigError, match=r"Tesla has compute capability 6\.0, .*no kernels .*12\.6"
    ):
        choose_device(wanted)


@pytest.mark.parametrize(
    ("capability", "built_for"),
    [
        ((7, 5), ["sm_75", "sm_80"]), ((8, 9), ["sm_80", "sm_90a"]), ((12, 1), ["sm_120"]),
        ((10, 3), ["sm_90", "compute_90"]), ((9, 0), ["gfx90a", "gfx942"]),
    ],
)  # fmt: skip
def test_a_gpu_runs_kernels_of_its_major_version_and_intermediate_code(gpu, capability, built_for):
    device = gpu(capability, built_for)
    assert choose_device(Device.cuda) == device


def test_a_process_without_a_gpu_is_refused(gpu):
    gpu((8, 0))
    with pytest.raises(ConfigError, match=r"process 1 of this node has no GPU: torch sees 1 "):
        choose_device(Device.cuda, local_rank=1)


def test_bf16_is_for_gpus_that_have_it_and_fp16_for_the_others(gpu):
    old = gpu((7, 5))
    assert choose_precision(Precision.auto, old) is torch.float16
    with pytest.raises(ConfigError, match=r"precision=bf16 needs .* 8\.0 .*; use precision=fp16"):
        choose_precision(Precision.bf16, old)
    new = gpu((8, 0))
    assert {choose_precision(p, new) for p in (Precision.auto, Precision.bf16)} == {torch.bfloat16}


def test_every_weight_of_a_network_is_laid_out_channels_last():
    model = channels_last(build_model(ModelConfig()))
    weights = [p for p in model.parameters() if p.ndim == 5]
    assert sum(1 in p.shape[:2] for p in weights) == 4  # both layouts hold these in one order
    assert {p.stride(1) for p in weights} == {1}


def test_cudnn_that_falls_back_to_slow_kernels_is_reported_with_its_version():
    (slow,) = cudnn_warnings(91002, torch.bfloat16)
    assert slow.startswith("cuDNN 9.10.2 is not used for contiguous 3-D convolutions")
    (no_tf32,) = cudnn_warnings(91002, torch.float32)
    assert "no usable TF32" in no_tf32


@pytest.mark.parametrize("version", [90701, 91600, 92000])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_versions_of_cudnn_are_fine(version, dtype):
    assert cudnn_warnings(version, dtype) == []


def test_a_cpu_needs_no_backend_settings():
    before = torch.backends.cudnn.benchmark
    set_up_backends(CPU, torch.float32)
    assert torch.backends.cudnn.benchmark is before


@pytest.fixture
def machine(tmp_path):
    """Return a function that writes a machine's files: its free memory and its control groups."""

    def write(membership, available_kb=8_000_000, **limits):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {available_kb} kB\n")
        (tmp_path / "proc/self/cgroup").write_text(membership)
        for path, text in limits.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / "proc", tmp_path / "cgroup"

    return write


def test_without_limits_a_job_may_use_what_the_machine_has_available(machine):
    paths = machine("0::/user\n", **{"user/memory.max": "max\n"})
    assert job_memory_bytes(*paths) == 8_000_000 * 1024


def test_the_tightest_limit_of_a_job_and_of_the_groups_above_it_counts(machine):
    limits = {"slurm/memory.max": "4000000000\n", "slurm/job1/memory.max": "max\n"}
    assert job_memory_bytes(*machine("0::/slurm/job1\n", **limits)) == 4_000_000_000


def test_limits_of_the_first_version_of_control_groups_count_too(machine):
    limits = {"memory/pbs/7/memory.limit_in_bytes": "3000000000\n"}
    membership = "12:cpuset:/pbs/7\n5:memory:/pbs/7\n0::/\n"
    assert job_memory_bytes(*machine(membership, **limits)) == 3_000_000_000


def test_a_container_that_sees_only_its_own_group_finds_its_limit_at_the_top(machine):
    assert job_memory_bytes(*machine("0::/gone/job\n", **{"memory.max": "2000000000"})) == 2 * 10**9


def test_a_system_that_does_not_say_gives_no_limit(tmp_path):
    assert job_memory_bytes(tmp_path / "proc", tmp_path / "cgroup") is None


RESIDENT = """
import ctypes
from pathlib import Path
from nodule_det.model import keep_freed_pages, large_blocks_returned

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1_000_000

def use(n_mb):
    blocks = [libc.malloc(n_mb * 1_000_000) for _ in range(4)]
    for block in blocks:
        ctypes.memset(block, 1, n_mb * 1_000_000)
    for block in reversed(blocks):
        libc.free(block)
    return resident_mb()

keep_freed_pages()
before = resident_mb()
kept = use(50)
with large_blocks_returned():
    entered = resident_mb()
    returned = use(50)
print(kept - before, entered - before, returned - before, use(50) - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_training_and_returned_in_inference():
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True, timeout=100
    )
    kept, entered, returned, kept_again = map(int, done.stdout.split())
    assert kept > 180  # of 4 x 50 MB
    assert entered < 20
    assert returned < 20
    assert kept_again > 180
