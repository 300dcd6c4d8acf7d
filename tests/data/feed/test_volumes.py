"""Voxels on the device, and cubes of the scans that do not fit."""

import numpy as np
import torch

from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.volumes import DeviceVolumes
from tests.data.memory_scan import MemoryScan, noise

CPU = torch.device("cpu")
LABELS = (np.random.default_rng(0).random((64, 72, 80)) < 0.5).astype(np.uint8)
SCANS = (MemoryScan(noise(0)), MemoryScan(noise(1), label_volume=LABELS))
ONE_SCAN = 2 * 64 * 72 * 80


def volumes(memory_bytes):
    masked = np.array([False, True])
    return DeviceVolumes(SCANS, masked, CPU, memory_bytes, n_cubes=4, size_vox=16, threads=2)


def samples(scan, corner):
    n = len(scan)
    orientation, intensity = np.zeros(n, int), np.zeros((n, 3), np.float32)
    return Samples(np.array(scan), np.array(corner), orientation, intensity)


def voxel_at(held, row, voxel, flat):
    first, _, pitch, low, high = held
    inside = np.clip(voxel, low[row], high[row])
    return int(flat[first[row] + (inside * pitch[row]).sum()])


def test_every_voxel_of_a_scan_on_the_device_is_found():
    both = volumes(10 * ONE_SCAN)
    held, away = both.held(samples([1, 0], [[3, 4, 5], [0, 0, 0]]))
    assert len(away) == 0
    assert voxel_at(held, 0, (63, 71, 79), both.voxels) == SCANS[1].volume_hu[63, 71, 79]
    assert voxel_at(held, 1, (2, 0, 9), both.voxels) == SCANS[0].volume_hu[2, 0, 9]
    assert both.labels.view(64, 72, 80).numpy().tolist() == LABELS.tolist()


def test_patches_of_a_scan_that_does_not_fit_are_cut_and_found_in_the_tail():
    first = volumes(ONE_SCAN)
    chosen = samples([1, 0, 1], [[3, 4, 5], [0, 0, 0], [50, 60, 70]])
    held, away = first.held(chosen)
    assert away.tolist() == [0, 2]
    cubes, labels = first.cut(chosen[away])
    first.place(cubes, labels)
    assert voxel_at(held, 0, (3, 4, 5), first.voxels) == SCANS[1].volume_hu[3, 4, 5]
    assert voxel_at(held, 2, (63, 71, 79), first.voxels) == SCANS[1].volume_hu[63, 71, 79]
    assert int(first.labels[held[1][0] + (held[2][0] * [3, 4, 5]).sum()]) == LABELS[3, 4, 5]


def test_cubes_of_scans_without_masks_bring_no_labels():
    assert volumes(0).cut(samples([0], [[0, 0, 0]]))[1] is None
