"""Steps whose losses are read only later: what is known about them."""

from __future__ import annotations

import pytest
import torch

from nodule_det.config.train import LimitConfig, OptimConfig, Optimizer
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.train.loop import fit
from nodule_det.train.step import Stepper, wants_graph

CPU = torch.device("cpu")


def test_the_sum_of_losses_is_that_of_the_steps_and_restarts_when_reset(trainer):
    one = trainer()
    step, batches = Stepper(one, one.model), list(one.feed.batches(0))
    sums = []
    for batch in batches[:3]:
        step(batch)
        sums.append(step.read(reset=False).wait())
    assert 0 < sums[0][0] < sums[1][0] < sums[2][0]
    assert {bad for _, bad in sums} == {-1}
    assert step.read(reset=True).wait() == sums[2]
    assert step.read(reset=True).wait() == (0, -1)


def test_an_interrupted_sum_is_continued_bit_for_bit(trainer):
    one, other = trainer(), trainer()
    steps = Stepper(one, one.model), Stepper(other, other.model)
    for batch in list(one.feed.batches(0))[:2]:
        steps[0](batch)
        steps[1](batch)
    other.state.loss_sum, _ = steps[1].read(reset=False).wait()
    resumed = Stepper(other, other.model)
    batch = one.feed.batch(0, 2)
    steps[0](batch)
    resumed(batch)
    assert resumed.read(reset=False).wait() == steps[0].read(reset=False).wait()


def poisoned_at(trainer, number):
    """Make the loss of one step infinite, whatever comes after."""
    batches = trainer.feed.batches

    def poisoned(epoch, *, first_step, rank, world_size):
        steps = batches(epoch, first_step=first_step, rank=rank, world_size=world_size)
        for step, batch in enumerate(steps, epoch * trainer.feed.steps_per_epoch + first_step):
            if step == number:
                batch.weight.fill_(torch.inf)
            yield batch

    trainer.feed.batches = poisoned


def test_a_divergence_is_reported_later_with_its_step_and_nothing_is_saved(trainer):
    one = trainer(limits=LimitConfig(epochs=3))
    poisoned_at(one, 3)  # of 6 steps an epoch: steps 4 and 5 are done as well
    with pytest.raises(DivergedError, match=r"not finite at step 3 with optim.lr=0.001; lower"):
        fit(one, lambda needed_s: None, lambda validation: None)
    assert one.state.step == 6
    assert not one.folder.checkpoint_last.exists()


def test_a_stop_right_after_a_bad_step_saves_nothing(trainer):
    one = trainer()
    poisoned_at(one, 2)
    reasons = iter([None, None, "sigterm"])
    with pytest.raises(DivergedError, match="at step 2"):
        fit(one, lambda needed_s: next(reasons), lambda validation: None)
    assert not one.folder.checkpoint_last.exists()


@pytest.mark.parametrize("kind", list(Optimizer))
def test_every_kind_of_optimiser_lowers_the_loss(trainer, kind):
    one = trainer(optim=OptimConfig(kind=kind, lr=3e-2, batch_size=2, weight_decay=1e-4))
    one.state.step = 3  # past the rise of the learning rate
    step, batch = Stepper(one, one.model), one.feed.batch(0, 0)
    losses = []
    for _ in range(8):
        step(batch)
        losses.append(step.read(reset=True).wait()[0])
    assert losses[-1] < 0.9 * losses[0]


def test_a_full_device_names_the_settings_to_lower(trainer):
    one = trainer()

    def full(image):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(DeviceMemoryError, match=r"cpu has no memory left at optim.batch_size=2, "):
        Stepper(one, full)(one.feed.batch(0, 0))


def test_a_cpu_has_no_graph_to_capture(trainer):
    assert wants_graph(trainer()) is False
