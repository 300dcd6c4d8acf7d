"""The mean over networks and views, compared with one network and with rotation by hand."""

import numpy as np
import pytest
import torch

from nodule_det.candidates import find_candidates
from nodule_det.checkpoint import Checkpoint, Meta, load_checkpoint, save_checkpoint
from nodule_det.config.train import CandidateConfig, ModelConfig
from nodule_det.ensemble.members import Ensemble, load_ensemble, turn, turn_back, views
from nodule_det.errors import CheckpointError
from nodule_det.geometry import Grid
from nodule_det.inference import DeviceVolume, predict_volume
from nodule_det.model import build_model

CPU = torch.device("cpu")
TINY = ModelConfig(depth=2, filters=4, kernel_size=3)


def checkpoint(path, seed, spacing_mm=1.0, config=TINY):
    torch.manual_seed(seed)
    meta = Meta(config, spacing_mm, 4.0, "test")
    save_checkpoint(path, Checkpoint(meta, build_model(config).state_dict()))
    return path


@pytest.fixture
def two(tmp_path):
    return [checkpoint(tmp_path / f"{seed}.pt", seed) for seed in (0, 1)]


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(-1000, 400, (20, 26, 32)).astype(np.int16)


def alone(path, volume):
    (model, meta) = load_ensemble([path], CPU, torch.float32).members[0]
    field = meta.receptive_field
    return predict_volume(model, field, volume, device=CPU, dtype=torch.float32).probability


def test_one_network_and_one_view_equal_that_network_exactly(two, volume):
    ensemble = load_ensemble(two[:1], CPU, torch.float32)
    np.testing.assert_array_equal(ensemble.probability(volume).probability, alone(two[0], volume))


def test_a_volume_that_stays_on_the_device_has_the_same_candidates(two, volume, monkeypatch):
    ensemble = load_ensemble(two[:1], CPU, torch.float32)
    grid, config = (
        Grid(volume.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
        CandidateConfig(threshold=0),
    )
    on_the_host = find_candidates(ensemble.search(volume), grid, config)
    monkeypatch.setattr(Ensemble, "stays_on_device", True)
    on_the_device = ensemble.search(volume)
    assert isinstance(on_the_device, DeviceVolume)
    found = find_candidates(on_the_device, grid, config)
    assert len(found) > 0
    np.testing.assert_array_equal(found.score, on_the_host.score)
    np.testing.assert_array_equal(found.world_mm, on_the_host.world_mm)


def test_two_networks_give_their_mean(two, volume):
    mean = load_ensemble(two, CPU, torch.float32).probability(volume).probability
    expected = (alone(two[0], volume) + alone(two[1], volume)) / 2
    np.testing.assert_allclose(mean, expected, atol=1e-6)


def test_views_give_the_mean_over_rotated_scans(two, volume):
    mean = load_ensemble(two[:1], CPU, torch.float32, 8).probability(volume).probability
    parts = []
    for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        mirrored = alone(two[0], np.ascontiguousarray(np.flip(volume, axes)))
        parts.append(np.flip(mirrored, axes))
    np.testing.assert_allclose(mean, np.mean(parts, axis=0), atol=1e-6)


def test_the_48_views_are_all_different_and_each_is_turned_back(volume):
    small = volume[:4, :5, :6]
    seen = {
        turn(small, view).tobytes() + str(turn(small, view).shape).encode() for view in views(48)
    }
    assert len(seen) == 48
    for view in views(48):
        np.testing.assert_array_equal(turn_back(turn(small, view), view), small)


def test_networks_may_differ_in_architecture_but_not_in_voxel_size(tmp_path, two, volume):
    config = ModelConfig(depth=3, filters=6, kernel_size=3)
    wide = checkpoint(tmp_path / "wide.pt", 2, config=config)
    region = load_ensemble([two[0], wide], CPU, torch.float32).probability(volume)
    assert region.probability.shape == (20, 26, 32)
    fine = checkpoint(tmp_path / "fine.pt", 3, spacing_mm=0.7)
    with pytest.raises(CheckpointError, match=r"fine.pt was trained on voxels of 0.7 mm"):
        load_ensemble([two[0], fine], CPU, torch.float32)


def test_members_give_what_the_trained_network_gives(two, volume):
    """Loading rewrites a network for inference; the trained one gives the same probabilities."""
    trained = load_checkpoint(two[0])
    model = build_model(trained.meta.model)
    model.load_state_dict(trained.weights)
    field = trained.meta.receptive_field
    plain = predict_volume(model.eval(), field, volume, device=CPU, dtype=torch.float32)
    np.testing.assert_allclose(alone(two[0], volume), plain.probability, atol=1e-5)
