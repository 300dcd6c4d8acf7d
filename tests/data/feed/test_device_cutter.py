"""Batches made on the device are those that NumPy cuts, whatever the patch and its truth."""

from __future__ import annotations

import gc
import tempfile
import weakref
from contextlib import closing
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.config.train import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from nodule_det.data.feed.augment import ORIENTATIONS
from nodule_det.data.feed.cutter import NumpyCutter
from nodule_det.data.feed.device_cutter import DeviceCutter, patches_at_once
from nodule_det.data.feed.feed import Feed
from nodule_det.data.feed.plan import Samples
from nodule_det.geometry import Grid
from tests.data.memory_scan import ORIGIN_MM, MemoryScan, finding, noise
from tests.no_waiting import NoWaiting

CPU = torch.device("cpu")
ALL, NOTHING = 1 << 40, 0
SIZES = ((64, 72, 80), (70, 64, 66), (65, 100, 67))


def random_scan(number, *, masked):
    """Make a scan with 40 findings that overlap, a third excluded, of 2 to 30 voxels."""
    rng = np.random.default_rng(number)
    size_vox = SIZES[number % 3]
    places, diameters = rng.uniform(0, 0.97, (40, 3)) * size_vox, rng.uniform(2, 30, 40)
    findings = tuple(
        finding(tuple(place), float(d), excluded=bool(k % 3 == 0))
        for k, (place, d) in enumerate(zip(places, diameters, strict=True))
    )
    labels = (rng.random(size_vox) < 0.02).astype(np.uint8) if masked else None
    return MemoryScan(noise(number, size_vox), findings, f"1.{number}", labels)


SCANS = tuple(random_scan(i, masked=i in (1, 3)) for i in range(5))
SOME = 2 * 64 * 72 * 80 + 3 * 70 * 64 * 66  # the first two scans, the second with labels


def samples_of(scan, corner, orientation):
    n = len(scan)
    arrays = (np.asarray(v, np.int64) for v in (scan, corner, orientation))
    return Samples(*arrays, np.tile(np.float32([0, 1, 1]), (n, 1)))


def assert_same(batch, expected):
    image, target, weight = (part.numpy() for part in batch.parts())
    np.testing.assert_array_equal(image, expected.image_hu.numpy())
    np.testing.assert_allclose(target, expected.target.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(weight, expected.weight.numpy(), rtol=1e-6, atol=1e-6)
    assert image.dtype == np.int16


@pytest.mark.parametrize("size_vox", [32, 64])
@pytest.mark.parametrize("memory_bytes", [ALL, SOME, NOTHING])
def test_every_orientation_over_every_border_is_what_numpy_cuts(size_vox, memory_bytes):
    rng = np.random.default_rng(size_vox)
    n = len(ORIENTATIONS)
    scan = np.arange(n) % len(SCANS)
    sizes = np.array([SIZES[s % 3] for s in scan])
    corner = rng.integers(-size_vox // 2, sizes - size_vox // 2)
    samples = samples_of(scan, corner, np.arange(n))
    cutter = DeviceCutter(SCANS, size_vox, CPU, memory_bytes)
    assert_same(cutter.cut(samples), NumpyCutter(SCANS, size_vox).cut(samples))


class Thick(MemoryScan):
    """A scan of 2 mm slices: lesions are drawn as balls of voxels, by the spacing along z."""

    @property
    def grid(self):
        return Grid(self.volume_hu.shape, (2.0, 0.7, 0.7), ORIGIN_MM)


@pytest.mark.parametrize("size_vox", [32, 64])
@pytest.mark.parametrize("memory_bytes", [ALL, NOTHING])
def test_thick_slices_and_scans_thinner_than_a_patch_are_what_numpy_cuts(size_vox, memory_bytes):
    rng = np.random.default_rng(size_vox)
    shapes = ((20, 70, 90), (66, 18, 70), (9, 70, 11))
    labels = [None, (rng.random(shapes[1]) < 0.05).astype(np.uint8), None]
    scans = tuple(
        Thick(
            noise(k, shape),
            tuple(
                finding((rng.uniform(0, 40), *rng.uniform(0, 60, 2)), float(d), excluded=d > 20)
                for d in rng.uniform(3, 25, 20)
            ),
            f"2.{k}",
            labels[k],
        )
        for k, shape in enumerate(shapes)
    )
    n = len(ORIENTATIONS)
    scan = np.arange(n) % len(scans)
    sizes = np.array([shapes[s] for s in scan])
    corner = rng.integers(-size_vox // 2, sizes - size_vox // 4)
    samples = samples_of(scan, corner, np.arange(n))
    expected = NumpyCutter(scans, size_vox).cut(samples)
    assert (expected.target > 0).any()
    assert (expected.weight == 0).any()
    assert_same(DeviceCutter(scans, size_vox, CPU, memory_bytes).cut(samples), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 18, 48]), st.sampled_from([ALL, SOME]))
def test_patches_of_any_size_at_any_place_are_what_numpy_cuts(seed, size_vox, memory_bytes):
    rng = np.random.default_rng(seed)
    scan = rng.integers(len(SCANS), size=6)
    corner = rng.integers(-size_vox - 2, 90, (6, 3))
    samples = samples_of(scan, corner, rng.integers(48, size=6))
    cutter = DeviceCutter(SCANS, size_vox, CPU, memory_bytes)
    assert_same(cutter.cut(samples), NumpyCutter(SCANS, size_vox).cut(samples))


def config(size_vox=32, batch_size=6, copies=2):
    return TrainConfig(
        patches=PatchConfig(size_vox=size_vox, per_epoch=50),
        optim=OptimConfig(batch_size=batch_size),
        augment=AugmentConfig(copies=copies, noise_hu=20.0, mirror=True),
    )


@pytest.mark.parametrize("memory_bytes", [ALL, SOME])
@pytest.mark.parametrize("shares", [(0, 1), (1, 3)])
def test_an_epoch_made_in_chunks_is_the_one_that_numpy_cuts(memory_bytes, shares):
    rank, world_size = shares
    numpy, device = (
        Feed(SCANS, config(), cutter)
        for cutter in (None, DeviceCutter(SCANS, 32, CPU, memory_bytes, threads=2))
    )
    for first_step in (0, 7):
        place = {"first_step": first_step, "rank": rank, "world_size": world_size}
        made, cut = list(device.batches(3, **place)), list(numpy.batches(3, **place))
        assert len(made) == len(cut) == 25 - first_step
        for one, other in zip(made, cut, strict=True):
            np.testing.assert_array_equal(one.image_hu, other.image_hu)
            np.testing.assert_allclose(one.weight, other.weight, rtol=1e-6)


def test_a_batch_larger_than_one_gather_is_made_in_parts(monkeypatch):
    monkeypatch.setattr("nodule_det.data.feed.device_cutter.VOXELS_AT_ONCE", 4 * 32**3)
    feed = Feed(SCANS, config(batch_size=10), DeviceCutter(SCANS, 32, CPU, SOME))
    expected = Feed(SCANS, config(batch_size=10))
    for one, other in zip(feed.batches(0), expected.batches(0), strict=True):
        np.testing.assert_array_equal(one.image_hu, other.image_hu)


def operations(scans, samples, memory_bytes):
    """Count the operations that make a batch; none of them may read a value."""
    cutter = DeviceCutter(scans, 32, CPU, memory_bytes)
    prepared = [cutter._prepare(part) for part in cutter._groups(samples)]
    with NoWaiting() as watched:
        batch = cutter._make(prepared)
    assert_same(batch, NumpyCutter(scans, 32).cut(samples))
    return watched.n_operations


@pytest.mark.parametrize("memory_bytes", [ALL, SOME])
def test_no_operation_that_makes_batches_reads_a_value(memory_bytes):
    plan = Feed(SCANS, config(batch_size=6)).plan
    assert operations(SCANS, plan.rows(0, 0), memory_bytes) > 0


def test_the_number_of_operations_hardly_depends_on_that_of_patches():
    places = ((10, 12, 14), (30, 40, 50), (50, 20, 60))
    diameters = ((4.0, 9.0, 14.0), (6.0, 8.0, 24.0))
    scans = [
        MemoryScan(noise(k), tuple(map(finding, places, mm)), f"3.{k}")
        for k, mm in enumerate(diameters)
    ]
    few, many = (
        operations(scans, Feed(scans, config(batch_size=n)).plan.rows(0, 0), ALL) for n in (8, 64)
    )
    assert many < 2 * few  # only of slots and sizes of balls


def test_a_call_gathers_more_patches_on_a_large_gpu_but_not_a_whole_epoch(monkeypatch):
    gpu = torch.device("cuda", 0)
    for memory_gb, n in ((16, (128, 16, 2)), (80, (128, 74, 9))):
        card = SimpleNamespace(total_memory=memory_gb * 10**9)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, card=card: card)
        assert tuple(patches_at_once(size, gpu) for size in (32, 64, 128)) == n
    assert [patches_at_once(size, CPU) for size in (16, 64, 512)] == [128, 16, 1]


MAPPED = weakref.WeakValueDictionary()


class Mapped(MemoryScan):
    """A scan that is mapped from files; ``MAPPED`` holds the maps that are still alive."""

    def volume(self):
        return self._map(self.volume_hu)

    def labels(self):
        return None if self.label_volume is None else self._map(self.label_volume)

    def _map(self, array):
        with tempfile.NamedTemporaryFile() as file:
            array.tofile(file.name)
            mapped = np.memmap(file.name, array.dtype, "r", shape=array.shape)
        MAPPED[id(mapped)] = mapped
        return mapped


@pytest.mark.parametrize("n_steps", [25, 2])
@pytest.mark.parametrize("cutter", [NumpyCutter, DeviceCutter])
def test_scans_are_unmapped_after_an_epoch_even_if_it_was_cut_short(cutter, n_steps):
    scans = [Mapped(s.volume_hu, s.findings, s.series_uid, s.label_volume) for s in SCANS[:2]]
    on_the_cpu = (CPU, NOTHING) if cutter is DeviceCutter else ()
    feed = Feed(scans, config(), cutter(scans, 32, *on_the_cpu))
    with closing(feed.batches(0)) as batches:
        assert len(list(islice(batches, n_steps))) == n_steps
    gc.collect()
    assert not MAPPED


def test_scans_lie_on_the_device_until_the_memory_is_used():
    held = [DeviceCutter(SCANS, 32, CPU, b).volumes for b in (ALL, SOME, SOME - 1, NOTHING)]
    assert [int(v.resident.sum()) for v in held] == [5, 2, 1, 0]
    n_vox = [int(np.prod(s.grid.size_vox)) for s in SCANS]
    assert held[0].voxels.numel() == sum(n_vox)
    assert held[0].labels.numel() == n_vox[1] + n_vox[3]
    assert held[1].voxels.numel() == sum(n_vox[:2]) + (1 << 22)


def test_what_the_scans_take_is_logged(caplog):
    with caplog.at_level("INFO", "nodule_det.data.feed.volumes"):
        DeviceCutter(SCANS, 32, CPU, SOME)
    assert "2 of 5 training scans are on cpu" in caplog.text
    assert "feed.memory_gb); patches of the others are cut on the CPU" in caplog.text
