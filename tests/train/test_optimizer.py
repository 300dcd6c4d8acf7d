"""The optimiser: its kinds, its learning rate, and its state in a checkpoint."""

import copy

import pytest
import torch
from torch import nn

from nodule_det.config.train import OptimConfig, Optimizer
from nodule_det.train.optimizer import (
    learning_rate,
    make_optimizer,
    restore_state,
    saved_state,
    set_learning_rate,
)

CPU = torch.device("cpu")
KINDS = list(Optimizer)


def stepped(optimizer, model, n=3):
    for step in range(n):
        model.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        set_learning_rate(optimizer, 0.1 / (step + 1))
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def network():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_rate_rises_for_a_twentieth_of_the_steps_and_falls_to_a_hundredth():
    rates = [learning_rate(step, 200, 0.5) for step in range(200)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.15])
    assert max(rates) == rates[9] == 0.5
    assert rates[-1] == pytest.approx(0.005, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (Optimizer.adam, lambda p: torch.optim.Adam(p, 1, (0.8, 0.999), weight_decay=0.01)),
        (Optimizer.adamw, lambda p: torch.optim.AdamW(p, 1, (0.8, 0.999), weight_decay=0.01)),
        (
            Optimizer.sgd,
            lambda p: torch.optim.SGD(p, 1, momentum=0.8, weight_decay=0.01, nesterov=True),
        ),
    ],
    ids=[kind.value for kind in KINDS],
)
def test_a_fused_step_equals_torchs_ordinary_one(kind, plain):
    model, other = network(), network()
    config = OptimConfig(kind=kind, beta1=0.8, weight_decay=0.01)
    ours = stepped(make_optimizer(model, config, CPU), model)
    theirs = stepped(plain(other.parameters()), other)
    for one, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_optimiser_continues_bit_for_bit(kind):
    config = OptimConfig(kind=kind, lr=0.01)
    model = network()
    optimizer = make_optimizer(model, config, CPU)
    stepped(optimizer, model)
    weights, state = copy.deepcopy((model.state_dict(), saved_state(optimizer)))
    end = stepped(optimizer, model)
    model.load_state_dict(weights)
    again = make_optimizer(model, config, CPU)
    restore_state(again, state)
    assert all(map(torch.equal, stepped(again, model), end))


def test_a_state_saved_before_fused_steps_can_be_resumed():
    model = network()
    old = torch.optim.Adam(model.parameters(), lr=0.3)
    stepped(old, model)
    new = make_optimizer(model, OptimConfig(), CPU)
    restore_state(new, old.state_dict())
    assert new.param_groups[0]["fused"] is True
    assert stepped(new, model)
