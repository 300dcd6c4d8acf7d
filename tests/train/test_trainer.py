"""The state of a run in its checkpoint, and checkpoints that a run refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nodule_det.checkpoint import load_checkpoint
from nodule_det.config.train import ModelConfig
from nodule_det.errors import CheckpointError
from nodule_det.train.distributed import World
from nodule_det.train.step import Stepper
from nodule_det.train.trainer import State


@pytest.fixture
def saved(trainer):
    """Return a trainer after two steps, and the checkpoint that it wrote."""
    one = trainer()
    step = Stepper(one, one.model)
    for batch in list(one.feed.batches(0))[:2]:
        step(batch)
        one.state.step += 1
    one.state.best_pauc = 0.25
    one.save(one.folder.checkpoint_last, training=True)
    return one, one.folder.checkpoint_last


def test_a_run_of_three_epochs_of_six_steps_has_eighteen(trainer):
    assert trainer().total_steps == 3 * 12 // 2


def test_a_restored_run_makes_the_same_next_step_bit_for_bit(saved, trainer):
    one, path = saved
    other = trainer()
    other.restore(load_checkpoint(path), path)
    assert other.state == State(step=2, best_pauc=0.25)
    batch = one.feed.batch(0, 2)
    for each in (one, other):
        Stepper(each, each.model)(batch)
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_checkpoint_has_its_number_of_steps(saved):
    assert load_checkpoint(saved[1]).meta.step == 2


def test_a_checkpoint_with_only_weights_cannot_be_resumed(saved, trainer):
    one, _ = saved
    path = one.folder.checkpoint_best
    one.save(path, training=False)
    with pytest.raises(CheckpointError, match=r"best\.pt has only weights"):
        trainer().restore(load_checkpoint(path), path)


def test_other_voxels_another_network_and_a_damaged_state_are_refused(saved, trainer):
    _, path = saved
    whole = load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"voxels of 0\.5 mm, .* has 1\.0 mm"):
        trainer().restore(replace(whole, meta=replace(whole.meta, spacing_mm=0.5)), path)
    with pytest.raises(CheckpointError, match="of another architecture"):
        trainer(model=ModelConfig(depth=2, filters=6)).restore(whole, path)
    training = {**whole.training, "state": {"stp": 1}}
    with pytest.raises(CheckpointError, match="has a training state that does not fit"):
        trainer().restore(replace(whole, training=training), path)


def test_only_the_first_of_several_processes_writes(trainer):
    second = trainer()
    second.world = World(rank=1, size=2)
    second.save(second.folder.checkpoint_last, training=True)
    assert not second.folder.checkpoint_last.exists()
