"""Where to compute, and in how many bits."""

import pytest
import torch

from nodule_det.config.train import Device, Precision
from nodule_det.errors import ConfigError
from nodule_det.model import choose_device, choose_precision, is_out_of_memory
from nodule_det.model.device import cpu_has_bf16

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
