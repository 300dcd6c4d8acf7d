"""A scan in pieces gives what one pass over it gives, whatever the pieces."""

import itertools
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import nn

from nodule_det.candidates import find_candidates
from nodule_det.config.train import CandidateConfig, ModelConfig
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.geometry import Grid
from nodule_det.inference import DeviceVolume, predict_volume, slab_voxels
from nodule_det.model import (
    ReceptiveField,
    build_model,
    fuse,
    normalise,
    reach_vox,
    receptive_field,
    stride,
)

CPU = torch.device("cpu")
SIZE_VOX = (37, 21, 27)  # odd, so nothing is a multiple of a stride
PLAIN = ModelConfig(depth=3, filters=4, residual=False)
RESIDUAL = ModelConfig(depth=2, filters=4, kernel_size=5, residual=True)


def trained(config):
    """Return a network whose output varies as that of a trained one does."""
    torch.manual_seed(1)
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_var, 0.02, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return fuse(model.eval())


def noise(size_vox=SIZE_VOX):
    return np.random.default_rng(0).integers(-1000, 400, size_vox, dtype=np.int16)


def predict(model, config, volume, box=None, dtype=torch.float32, **options):
    field = receptive_field(config)
    return predict_volume(model, field, volume, box, device=CPU, dtype=dtype, **options)


MODELS = {name: trained(config) for name, config in (("plain", PLAIN), ("residual", RESIDUAL))}
CONFIGS = {"plain": PLAIN, "residual": RESIDUAL}
WHOLE = {name: predict(MODELS[name], CONFIGS[name], noise()).probability for name in MODELS}


def in_one_pass(config, volume):
    """Compute by the network alone, on the volume padded with air to whole strides."""
    missing = [(0, -n % stride(config)) for n in volume.shape]
    padded = np.pad(volume, missing, constant_values=-1024)
    with torch.inference_mode():
        out = trained(config)(normalise(torch.from_numpy(padded))[None, None])
    z, y, x = volume.shape
    return torch.sigmoid(out[0, 0, :z, :y, :x]).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_scan_is_one_pass_of_the_network(name):
    np.testing.assert_allclose(WHOLE[name], in_one_pass(CONFIGS[name], noise()), atol=1e-6)
    assert WHOLE[name].dtype == np.float32
    assert np.ptp(WHOLE[name]) > 0.02  # it says different things at different places


@given(
    name=st.sampled_from(sorted(MODELS)),
    ends=st.tuples(*(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)
                     for n in SIZE_VOX)),
    max_voxels=st.integers(1, 40_000),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_box_in_slabs_of_any_thickness_gives_the_same_numbers(name, ends, max_voxels):
    box = tuple(slice(*sorted(pair)) for pair in ends)
    region = predict(MODELS[name], CONFIGS[name], noise(), box, max_voxels=max_voxels)
    assert region.corner == tuple(s.start for s in box)
    np.testing.assert_allclose(region.probability, WHOLE[name][box], atol=1e-5)


@pytest.mark.parametrize("size_vox", [(1, 1, 1), (2, 3, 5), (8, 8, 8), (41, 4, 7)])
def test_a_scan_of_any_size_is_computed(size_vox):
    region = predict(MODELS["plain"], PLAIN, noise(size_vox), max_voxels=500)
    assert region.probability.shape == size_vox
    np.testing.assert_allclose(region.probability, in_one_pass(PLAIN, noise(size_vox)), atol=1e-5)


def test_a_read_only_memory_map_is_read(tmp_path):
    np.save(tmp_path / "a.npy", noise())
    volume = np.load(tmp_path / "a.npy", mmap_mode="r")
    found = predict(MODELS["plain"], PLAIN, volume).probability
    np.testing.assert_array_equal(found, WHOLE["plain"])


def test_bf16_changes_the_probability_little():
    found = predict(MODELS["plain"], PLAIN, noise(), dtype=torch.bfloat16).probability
    assert np.abs(found - WHOLE["plain"]).max() < 0.03


@pytest.mark.parametrize(
    ("depth", "kernel_size", "residual"),
    [*itertools.product((2, 3), (3, 5), (False, True)), (4, 3, False), (4, 5, True)],
)
@pytest.mark.parametrize("full_resolution", [False, True])
def test_the_reach_is_that_of_the_network(depth, kernel_size, residual, full_resolution):
    config = ModelConfig(
        depth=depth, filters=4, kernel_size=kernel_size, residual=residual,
        full_resolution=full_resolution,
    )  # fmt: skip
    model = build_model(config).eval()
    for parameter in model.parameters():  # positive weights: no two ways cancel each other
        nn.init.constant_(parameter, 0.1)
    step, n = stride(config), 2 * reach_vox(config) + 16
    middle = n // 2 // step * step
    farthest = 0
    for place in range(middle, middle + step):
        x = torch.ones(1, 1, n, step, step, dtype=torch.float64, requires_grad=True)
        model.double()(x)[0, 0, place].sum().backward()
        seen = x.grad.sum((0, 1, 3, 4)).nonzero()
        farthest = max(farthest, place - int(seen.min()), int(seen.max()) - place)
    assert -(-farthest // step) * step == reach_vox(config)


@pytest.mark.parametrize(
    ("depth", "filters", "residual", "bytes_per_voxel"),
    [(3, 8, False, 38), (3, 32, False, 82), (2, 4, True, 34), (3, 16, True, 62)],
)
def test_a_slab_fits_its_memory_by_what_was_measured(
    depth, filters, residual, bytes_per_voxel, monkeypatch
):
    config = ModelConfig(depth=depth, filters=filters, residual=residual)
    for available, expected in ((2**40, 2**30), (2**31, 2**29)):  # a quarter of 2 GiB
        monkeypatch.setattr("nodule_det.inference.job_memory_bytes", lambda n=available: n)
        taken = slab_voxels(receptive_field(config), CPU, 2**30) * bytes_per_voxel
        assert 0.6 * expected < taken <= expected
    monkeypatch.setattr("nodule_det.inference.job_memory_bytes", lambda: None)
    assert slab_voxels(receptive_field(config), CPU, 2**30) * bytes_per_voxel > 0.6 * 2**30


@pytest.mark.parametrize("threshold", [0.0, 0.3])
@pytest.mark.parametrize("spacing_mm", [1.0, 0.7])
def test_peaks_found_on_the_device_are_those_found_by_numpy(threshold, spacing_mm):
    rng = np.random.default_rng(3)
    volume = np.round(gaussian_filter(rng.random((40, 33, 27)), 1.5) * 4 - 1.6, 3)
    volume = np.clip(volume, 0, 1).astype(np.float32)  # plateaus of 0 and 1, and equal peaks
    grid = Grid(volume.shape, 3 * (spacing_mm,), (3.0, -4.0, 5.0))
    config = CandidateConfig(threshold=threshold, merge_mm=2.0, max_per_scan=70)
    host = find_candidates(volume, grid, config)
    device = find_candidates(DeviceVolume(torch.from_numpy(volume)), grid, config)
    assert len(host) > 15
    for name in ("world_mm", "score", "diameter_mm"):
        np.testing.assert_array_equal(getattr(device, name), getattr(host, name))
    assert device.n_dropped == host.n_dropped


class Full(nn.Module):
    """A network on a device that has room for a few rows."""

    def __init__(self, rows, model):
        super().__init__()
        self.rows, self.model = rows, model

    def forward(self, x):
        if x.shape[2] > self.rows:
            raise torch.OutOfMemoryError("full")
        return self.model(x)


class Noting(torch.nn.Module):
    """A network that notes whether cuDNN would search for kernels."""

    def __init__(self, model):
        super().__init__()
        self.model, self.searched = model, []

    def forward(self, x):
        self.searched.append(torch.backends.cudnn.benchmark)
        return self.model(x)


def test_a_scan_starts_no_search_for_kernels_as_its_size_is_seen_once(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    model = Noting(MODELS["plain"])
    predict(model, PLAIN, noise((24, 8, 8)))
    assert model.searched == [False]
    assert torch.backends.cudnn.benchmark is True


def test_slabs_get_thinner_until_they_fit_and_a_warning_says_so(caplog):
    model = Full(32, MODELS["plain"])  # 12 rows of halo on either side leave 8 to keep
    with caplog.at_level(logging.WARNING):
        found = predict(model, PLAIN, noise((96, 8, 8))).probability
    np.testing.assert_allclose(found, in_one_pass(PLAIN, noise((96, 8, 8))), atol=1e-5)
    assert "cpu is out of memory at slabs of 96 rows; continuing with 48" in caplog.text


def test_a_device_without_room_for_the_thinnest_slab_is_an_error_that_says_what_to_do():
    with pytest.raises(
        DeviceMemoryError, match=r"cpu has no memory left for .*thinnest.*fewer filt"
    ):
        predict(Full(8, MODELS["plain"]), PLAIN, noise((96, 8, 8)))


def test_other_failures_of_the_network_come_through():
    with pytest.raises(RuntimeError, match="weight of size"):
        predict(nn.Conv3d(2, 1, 1), PLAIN, noise())


def test_values_that_are_no_numbers_are_refused():
    class Broken(nn.Module):
        def forward(self, x):
            return x * torch.nan

    with pytest.raises(DivergedError, match=r"output is not finite.*precision=fp32"):
        predict(Broken(), PLAIN, noise())


def windowed(volume, edge):
    """Search by a network with instance norm, whose output depends on its whole window."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2), nn.ReLU(), nn.Conv3d(2, 1, 1)
    ).eval()
    field = ReceptiveField(stride_vox=1, radius_vox=None, window_vox=edge, bytes_per_voxel=64)
    found = predict_volume(model, field, volume, device=CPU, dtype=torch.float32)
    return model, found.probability


def test_a_network_of_unbounded_reach_is_searched_by_windows_of_its_patch_size():
    volume = noise((16, 16, 16))
    model, alone = windowed(volume, 16)  # one window: the network itself
    with torch.inference_mode():
        expected = model(normalise(torch.from_numpy(volume))[None, None])[0, 0].sigmoid().numpy()
    np.testing.assert_allclose(alone, expected, atol=1e-6)


def test_windows_cover_a_scan_of_any_size_and_agree_where_it_repeats():
    volume = np.tile(noise((8, 8, 8)), (5, 4, 3))
    _, found = windowed(volume, 16)  # windows of two periods, at steps of one
    assert found.shape == (40, 32, 24)
    np.testing.assert_allclose(found[16, 16, 8:16], found[24, 16, 8:16], atol=1e-5)
    _, small = windowed(noise((9, 21, 5)), 16)  # smaller than a window
    assert small.shape == (9, 21, 5)
    assert np.isfinite(small).all()
