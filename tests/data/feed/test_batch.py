"""Changes of intensity on the device."""

import pytest
import torch

from nodule_det.data.feed.batch import AIR_HU, Batch, noise_seed, vary_intensity


def batch(n=3):
    image = torch.arange(n * 64, dtype=torch.int16).view(n, 1, 4, 4, 4) - 900
    return Batch(image, torch.zeros(image.shape), torch.ones(image.shape))


def test_factors_of_one_and_no_noise_change_nothing():
    varied = vary_intensity(batch(), torch.tensor([[0.0, 1.0, 1.0]] * 3), 7)
    assert torch.equal(varied.image_hu, batch().image_hu.float())
    assert torch.equal(varied.weight, batch().weight)


def test_contrast_is_about_the_mean_of_each_patch_and_scale_about_air():
    image = batch().image_hu.float()
    varied = vary_intensity(
        batch(), torch.tensor([[0, 2.0, 1], [0, 1, 0.5], [0, 1, 1]]), 7
    ).image_hu
    assert float(varied[0].mean()) == pytest.approx(float(image[0].mean()), abs=1e-3)
    assert float(varied[0].std()) == pytest.approx(2 * float(image[0].std()), rel=1e-4)
    torch.testing.assert_close(varied[1] - AIR_HU, (image[1] - AIR_HU) / 2)
    assert torch.equal(varied[2], image[2])


def test_noise_has_the_standard_deviation_of_each_patch_and_depends_on_the_seed_alone():
    large = Batch(*(torch.zeros(2, 1, 32, 32, 32) for _ in range(3)))
    strengths = torch.tensor([[30.0, 1, 1], [0, 1, 1]])
    one, again, other = (vary_intensity(large, strengths, s).image_hu for s in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert float(one[0].std()) == pytest.approx(30, rel=0.02)
    assert one[1].abs().max() == 0


def test_the_seed_of_noise_differs_by_seed_epoch_step_and_process():
    places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    seeds = [noise_seed(*place) for place in places]
    assert len(set(seeds)) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
