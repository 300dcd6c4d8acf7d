"""The predicted resources, compared with the network itself and with counts by hand."""

import itertools

import numpy as np
import pytest

from nodule_det.config.train import ModelConfig, Precision, TrainConfig
from nodule_det.forecast.cost import CPU_BASE_BYTES, fit_speed, footprint, layers
from nodule_det.hpo.training.check import with_params


@pytest.mark.parametrize("full_resolution", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_every_layer_of_the_real_network_is_counted(kernel_size, residual, full_resolution):
    from nodule_det.model import build_model

    for depth, filters in itertools.product((2, 3, 4), (4, 6)):
        model = ModelConfig(
            depth=depth,
            filters=filters,
            kernel_size=kernel_size,
            residual=residual,
            full_resolution=full_resolution,
        )
        built = sum(p.numel() for p in build_model(model).parameters())
        assert sum(layer.n_parameters for layer in layers(model, 32)) == built


def test_operations_of_the_smallest_network_by_hand():
    model = ModelConfig(depth=2, filters=4, kernel_size=3, residual=False)
    # 1 -> 4 at 16^3, 4 -> 8 at 16^3, and 12 -> 1 spread from 16^3 to 32^3
    by_hand = 2 * 27 * 16**3 * (1 * 4 + 4 * 8 + 12 * 1)
    assert sum(layer.operations for layer in layers(model, 32)) == by_hand


def test_operations_at_full_resolution_by_hand():
    model = ModelConfig(depth=2, filters=4, kernel_size=3, residual=False, full_resolution=True)
    # 1 -> 4, 4 -> 8 and 12 -> 1, all at 32^3
    by_hand = 2 * 27 * 32**3 * (1 * 4 + 4 * 8 + 12 * 1)
    assert sum(layer.operations for layer in layers(model, 32)) == by_hand


def needs(gpu=True, **params):
    return footprint(with_params(TrainConfig(), params), gpu=gpu)


def test_memory_grows_with_batch_patch_and_filters():
    small = needs(**{"patches.size_vox": 32, "optim.batch_size": 2, "model.filters": 4})
    for larger in (
        {"patches.size_vox": 64, "optim.batch_size": 2, "model.filters": 4},
        {"patches.size_vox": 32, "optim.batch_size": 4, "model.filters": 4},
        {"patches.size_vox": 32, "optim.batch_size": 2, "model.filters": 6},
    ):
        assert needs(**larger).memory_bytes > small.memory_bytes


def test_16_bits_need_less_memory_than_32_and_a_gpu_needs_less_than_a_cpu():
    halves = needs(precision=Precision.bf16.value)
    assert halves.memory_bytes < needs(precision=Precision.fp32.value).memory_bytes
    assert halves.memory_bytes + CPU_BASE_BYTES <= needs(gpu=False).memory_bytes


def test_steps_include_copies_and_drop_an_incomplete_batch():
    params = {"patches.per_epoch": 100, "augment.copies": 2, "optim.batch_size": 8}
    assert needs(**params, **{"limits.epochs": 3}).steps == 3 * (300 // 8)


def test_times_are_fitted_to_completed_trainings():
    rng = np.random.default_rng(0)
    filters, batches = rng.choice(range(4, 33, 2), 12), rng.choice(range(2, 17, 2), 12)
    known = [
        needs(**{"model.filters": int(f), "optim.batch_size": int(b)})
        for f, b in zip(filters, batches, strict=True)
    ]
    # 20 s to start, 50 Gflop/s and 10 GB/s, and 5 % of noise
    true = [20 + n.work[1] / 50e9 + n.work[2] / 10e9 for n in known]
    speed = fit_speed(known, true * rng.normal(1.0, 0.05, 12))
    new = needs(**{"model.filters": 24, "optim.batch_size": 6})
    truth = 20 + new.work[1] / 50e9 + new.work[2] / 10e9
    assert speed.seconds(new) == pytest.approx(truth, rel=0.1)
    assert 1.0 < speed.off < 1.3


def test_too_few_trainings_give_no_speed():
    assert fit_speed([needs()] * 5, [60.0] * 5) is None
