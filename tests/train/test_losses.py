"""The loss, checked by hand and at extreme values."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.train.losses import detection_loss


def volume(*values):
    return torch.tensor(values).reshape(1, 1, 1, 1, -1)


def test_three_voxels_by_hand():
    logits = volume(0.0, math.log(3), -math.log(3))  # p = 1/2, 3/4, 1/4
    loss = detection_loss(logits, volume(0.0, 1.0, 1.0), volume(1.0, 2.0, 4.0))
    # w |t - p| (-log of what was right): the mean over three voxels that count
    by_hand = [1 / 2 * math.log(2), 2 / 4 * math.log(4 / 3), 4 * 3 / 4 * math.log(4)]
    assert loss.item() == pytest.approx(sum(by_hand) / 3)


def test_a_voxel_of_weight_zero_does_not_count():
    with_it = detection_loss(volume(0.3, 9.0), volume(1.0, 0.0), volume(2.0, 0.0))
    without = detection_loss(volume(0.3), volume(1.0), volume(2.0))
    assert with_it == without


def test_a_batch_without_counted_voxels_has_loss_zero_and_a_gradient():
    logits = volume(0.5, -0.5).requires_grad_()
    loss = detection_loss(logits, volume(0.0, 1.0), volume(0.0, 0.0))
    loss.backward()
    assert loss == 0
    assert logits.grad.tolist() == [[[[[0, 0]]]]]


@given(st.floats(-1e4, 1e4), st.floats(0, 1))
def test_loss_and_gradient_stay_finite_in_extremes(logit, target):
    logits = volume(logit).requires_grad_()
    loss = detection_loss(logits, volume(target), volume(1e4))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert loss >= 0


def test_a_more_confident_mistake_costs_more():
    costs = [detection_loss(volume(x), volume(0.0), volume(1.0)) for x in (-2.0, 0.0, 2.0, 8.0)]
    assert costs == sorted(costs)


def test_the_loss_of_a_soft_target_is_lowest_at_its_own_probability():
    logits = torch.linspace(-4, 4, 801)
    costs = [detection_loss(volume(x), volume(0.25), volume(1.0)) for x in logits]
    best = logits[int(torch.tensor(costs).argmin())]
    assert torch.sigmoid(best).item() == pytest.approx(0.25, abs=0.01)


def test_the_order_of_patches_does_not_matter():
    rng = torch.Generator().manual_seed(0)
    logits, target, weight = (torch.rand(4, 1, 5, 5, 5, generator=rng) for _ in range(3))
    turned = [v.flip(0).transpose(2, 4) for v in (logits, target, weight)]
    assert detection_loss(*turned).item() == pytest.approx(
        detection_loss(logits, target, weight).item(), rel=1e-6
    )


def test_easy_background_is_nearly_free():
    easy = detection_loss(volume(-5.0), volume(0.0), volume(1.0))
    hard = detection_loss(volume(0.0), volume(0.0), volume(1.0))
    assert easy < hard / 5000  # p = 1/149 costs 1/149 x 1/149, p = 1/2 costs 1/2 x log 2


def test_the_loss_is_float32_under_autocast():
    logits = volume(0.1, 0.2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = detection_loss(logits, volume(0.0, 1.0), volume(1.0, 1.0))
    assert loss.dtype == torch.float32
