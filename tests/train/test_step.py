"""Steps whose losses are read only later: what is known about them."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager, nullcontext

import pytest
import torch

from nodule_det.config.train import LimitConfig, OptimConfig, Optimizer
from nodule_det.errors import DeviceMemoryError, DivergedError
from nodule_det.train.loop import fit
from nodule_det.train.step import Stepper, waits_noted, wants_graph
from tests.no_waiting import NoWaiting

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_operation_of_a_step_reads_a_value(trainer, dtype):
    one = trainer(optim=OptimConfig(batch_size=2, weight_decay=1e-4))
    one.dtype = dtype
    step, batches = Stepper(one, one.model), [one.feed.batch(0, k) for k in range(3)]
    step(batches[0])
    with NoWaiting() as watched:
        step(batches[1])
        step(batches[2])
    assert watched.n_operations > 200
    with pytest.raises(AssertionError, match="_local_scalar_dense makes the host wait"), watched:
        float(step._seen[0])


class FakeStream:
    """A stream of a GPU that does everything at once."""

    def __init__(self, *_):
        pass

    def wait_stream(self, other):
        pass


class FakeGraph:
    """Captures a step without doing it, as a CUDA graph does, and then does it again and again."""

    def __init__(self, step, error=None):
        self.step, self.error, self.n_replayed = step, error, 0

    @contextmanager
    def capturing(self, graph, **options):
        assert options == {"capture_error_mode": "thread_local"}
        trainer, step = self.step._trainer, self.step
        state = trainer.optimizer.state
        tensors = [*trainer.model.state_dict().values(), step._seen, step._number]
        tensors += [v for s in state.values() for v in s.values() if torch.is_tensor(v)]
        before = [tensor.clone() for tensor in tensors]
        yield
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        if self.error:
            raise self.error

    def replay(self):
        self.n_replayed += 1
        self.step._compute(*self.step._static.parts())


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Return a function that makes a stepper which believes to be on a GPU, and its graph."""
    modes, there = [], []
    monkeypatch.setattr(
        "nodule_det.train.step.wants_graph", lambda trainer: any(trainer is one for one in there)
    )
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def make(trainer, forward=None, error=None):
        there.append(trainer)
        step = Stepper(trainer, forward or trainer.model)
        graph = FakeGraph(step, error)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
        monkeypatch.setattr(torch.cuda, "graph", graph.capturing)
        return step, graph, modes

    return make


def trained(trainer, step, n):
    """Do n steps; returns the weights and what is known about the losses."""
    for k in range(n):
        step(trainer.feed.batch(0, k))
        trainer.state.step += 1
    return [p.clone() for p in trainer.model.state_dict().values()], step.read(reset=True).wait()


def test_a_captured_step_continues_the_ordinary_ones_without_counting_twice(trainer, on_a_gpu):
    plain, graphed = trainer(), trainer()
    expected, losses = trained(plain, Stepper(plain, plain.model), 6)
    step, graph, modes = on_a_gpu(graphed)
    weights, seen = trained(graphed, step, 6)
    assert graph.n_replayed == 3
    assert modes == ["warn", "default"]  # in the last ordinary step
    assert seen == losses
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_network_that_waits_for_the_device_is_never_captured(trainer, on_a_gpu, caplog):
    one, plain = trainer(), trainer()

    def waiting(image):
        if torch.is_grad_enabled():
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return one.model(image)

    step, graph, _ = on_a_gpu(one, waiting)
    with pytest.warns(UserWarning, match="synchronizing"):
        trained(one, step, 2)
    with caplog.at_level("WARNING"):
        step(one.feed.batch(0, 2))  # noted instead of shown
    one.state.step += 1
    with pytest.warns(UserWarning, match="synchronizing"):
        step(one.feed.batch(0, 3))
    assert graph.n_replayed == 0
    assert re.search(
        r"cannot be captured as a CUDA graph \(the host waits for the device in test_step\.py:\d+\)"
        "; continuing with ordinary steps", caplog.text,
    )  # fmt: skip
    expected, _ = trained(plain, Stepper(plain, plain.model), 4)
    for weight, other in zip(one.model.state_dict().values(), expected, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=0)


def test_a_capture_that_fails_is_logged_with_its_cause_and_the_training_goes_on(
    trainer, on_a_gpu, caplog
):
    plain, one = trainer(), trainer()
    expected, losses = trained(plain, Stepper(plain, plain.model), 6)
    broken = RuntimeError("the end of a broken capture fails as well")
    broken.__context__ = RuntimeError("operation not permitted\nwhen stream is capturing")
    step, graph, _ = on_a_gpu(one, error=broken)
    with caplog.at_level("WARNING"):
        weights, seen = trained(one, step, 6)
    assert caplog.text.count("as a CUDA graph (operation not permitted); continuing") == 1
    assert (graph.n_replayed, seen) == (0, losses)
    for weight, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=0)


def test_other_warnings_of_a_watched_step_are_shown(monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with waits_noted() as places:
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
            warnings.warn("something else", RuntimeWarning, stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["something else"]
    assert places == []


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
