"""The training loop: when it validates, saves, publishes and stops."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodule_det.checkpoint import load_checkpoint
from nodule_det.config.train import LimitConfig, ValidationConfig
from nodule_det.files import read_jsonl
from nodule_det.train.loop import Clock, fit
from nodule_det.train.trainer import State


def never(needed_s):
    return None


def ignore(validation):
    pass


def test_a_complete_run_validates_after_the_due_epochs(trainer):
    one = trainer(
        limits=LimitConfig(epochs=3), validation=ValidationConfig(every_epochs=2, bootstrap=100)
    )
    published = []
    assert fit(one, never, published.append) is None
    rows = read_jsonl(one.folder.metrics)
    # epoch 2 because it is due, epoch 3 because it is the last
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [2, 3]
    assert (one.state.epoch, one.state.step, one.state.validated) == (3, 18, 3)
    paucs = [found.froc.pauc for found in published]
    assert paucs == sorted(set(paucs))
    assert paucs[-1] == one.state.best_pauc
    assert load_checkpoint(one.folder.checkpoint_best).meta.step == one.state.best_step


def test_a_run_that_must_stop_saves_its_last_step_and_resumes_there(trainer):
    one = trainer(limits=LimitConfig(epochs=1))
    reasons = iter([None, None, "sigterm"])
    assert fit(one, lambda needed_s: next(reasons), ignore) == "sigterm"
    path = one.folder.checkpoint_last
    assert load_checkpoint(path).training["state"]["step"] == 3
    other = trainer(limits=LimitConfig(epochs=1))
    other.restore(load_checkpoint(path), path)
    steps = []
    assert fit(other, lambda needed_s: steps.append(other.state.step), ignore) is None
    assert steps[:3] == [4, 5, 6]


def test_a_run_without_patience_left_ends_early(trainer):
    one = trainer()
    one.config = replace(
        one.config,
        validation=replace(one.config.validation, patience=1),
        limits=LimitConfig(epochs=9),
    )
    one.state.best_pauc, one.state.best_step = 2.0, 0  # no validation is better
    assert fit(one, never, lambda validation: pytest.fail("it is not the best")) is None
    assert (one.state.epoch, one.state.worse) == (1, 1)


def test_seconds_continue_from_the_sessions_before():
    state = State(seconds=100.0)
    clock = Clock(state)
    clock.tick()
    assert 100 <= state.seconds < 160
    assert clock.since_save_s() >= 0
