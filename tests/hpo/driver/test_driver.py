"""The driver on a batch system in memory: a study of days in a moment, with every fault."""

import errno

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodule_det.hpo.simulate.dispatcher import Faults
from nodule_det.hpo.study.inbox import enqueue, enqueue_result, result_origin
from nodule_det.hpo.study.trial import TrialState
from tests.hpo.virtual_lab import HOUR, Lab


def test_every_trial_runs_once_and_the_best_is_known(lab):
    study = (made := lab()).run()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 12
    assert made.starts() == [1] * 12
    assert study.best().value == max(100 * t.params["optim.lr"] for t in study.trials)
    assert study.best().value_se == 0.02
    assert study.node_seconds(0.0) == pytest.approx(12 * HOUR, rel=1e-3)


def test_sixteen_workers_are_busy_98_percent_of_the_time(lab):
    made = lab(workers=16, trials=160)
    made.run()
    assert made.batch.busy_s / (16 * made.clock.monotonic()) >= 0.98


def test_a_slow_queue_and_few_slots_delay_but_lose_nothing(lab):
    made = lab(slots=2, workers=8, trials=10)
    study = made.run()
    assert made.starts() == [1] * 10
    assert made.clock.monotonic() >= 5 * HOUR
    assert len(study.trials) == 10


def test_a_scheduler_that_is_down_for_an_hour_costs_at_most_an_hour(lab):
    made = lab(faults=Faults(down=((600.0, 600.0 + HOUR), (9000.0, 9100.0))))
    study = made.run()
    assert all(t.state is TrialState.COMPLETE for t in study.trials)
    assert made.starts() == [1] * 12
    assert made.clock.monotonic() < 3 * HOUR + HOUR + 1000
    assert any("does not answer" in line for line in made.said)


def test_polls_that_mention_no_job_change_nothing(lab):
    made = lab(faults=Faults(silent=((0.0, 8000.0),)))
    study = made.run()
    assert made.starts() == [1] * 12
    assert all(len(t.attempts) == 1 for t in study.trials)


def test_the_driver_waits_for_a_requeued_job(lab):
    made = lab(faults=Faults(requeue_after={2: 0.5}))
    study = made.run()
    assert made.starts() == [1] * 11 + [2]
    assert all(len(t.attempts) == 1 for t in study.trials)


def test_an_imported_result_is_used_but_has_no_job(lab):
    made = lab(trials=3)
    result = {"state": "complete", "value": 0.95, "imported_seconds": 60.0}
    enqueue_result(made.folder.queue, {"optim.lr": 0.009}, result, result_origin("cafe01", 7))
    study = made.run()
    assert study.best().source == "imported"
    assert len(study.own) == 3
    assert study.node_seconds(0.0) == pytest.approx(3 * HOUR, rel=1e-3)


def test_a_queue_entry_is_used_once_although_the_driver_died(lab):
    made = lab(trials=2)
    path = enqueue(made.folder.queue, {"optim.lr": 0.005})
    made.start()
    made.writer.ask({"optim.lr": 0.005}, "user", path.name)  # killed before it removed the file
    study = made.run()
    assert [t.source for t in study.trials] == ["user", "random"]


def test_an_imported_result_is_kept_although_the_driver_died_between_its_records(lab):
    made = lab(trials=2)
    result = {"state": "complete", "value": 0.95, "imported_seconds": 60.0}
    path = enqueue_result(
        made.folder.queue, {"optim.lr": 0.009}, result, result_origin("cafe01", 7)
    )
    made.start()
    made.writer.ask({"optim.lr": 0.009}, "imported", path.name)
    study = made.run()
    assert [t.source for t in study.trials] == ["imported", "random", "random"]
    assert (study.best().value, study.best().attempts) == (0.95, ())
    assert not path.exists()


def test_points_that_are_queued_for_a_finished_study_are_run(lab):
    made = lab(trials=2)
    made.run()
    enqueue(made.folder.queue, {"optim.lr": 0.005})
    study = made.run()
    assert [t.source for t in study.trials] == ["random", "random", "user"]
    assert study.trial(3).state is TrialState.COMPLETE


def test_an_invalid_queue_entry_is_reported_once_and_kept(lab):
    made = lab(trials=2)
    path = enqueue(made.folder.queue, {"optim.lr": 5})
    made.run()
    said = [line for line in made.said if "cannot be used" in line]
    assert len(said) == 1
    assert "optim.lr=5 is outside [0.001, 0.01]" in said[0]
    assert path.exists()


def test_a_clock_set_back_or_forward_changes_no_outcome(lab):
    made = lab()
    driver = made.start()
    for jump in (7200.0, -90000.0, 3.0):
        driver.try_step()
        made.clock.sleep(1000.0)
        made.clock.jump(jump)
    assert driver.run()
    assert made.starts() == [1] * 12
    assert all(t.seconds >= 0 for t in made.study.trials)


def test_the_driver_waits_while_the_disk_is_full(lab, monkeypatch):
    made = lab()
    driver = made.start()
    append = made.writer._journal.append
    calls = iter(range(10_000))

    def full(record):
        if 3 <= next(calls) < 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(record)

    monkeypatch.setattr(made.writer._journal, "append", full)
    assert driver.run()
    assert made.starts() == [1] * 12
    assert any("No space left" in line for line in made.said)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_driver_killed_anywhere_under_any_fault_runs_every_job_once(tmp_path_factory, seed):
    """Kill at a random write, to the journal or to the batch system, over and over."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(20)
    faults = Faults(
        answer_lost=frozenset(map(int, numbers[:3])),
        never_arrived=frozenset(map(int, numbers[3:6])),
        down=((1800.0, 5400.0),),
        silent=((7200.0, 9000.0),),
    )
    made = Lab(tmp_path_factory.mktemp("kill") / "study", faults=faults, trials=10, workers=3)
    kills = 0
    while True:
        driver = made.start()
        left = iter(range(int(rng.integers(1, 40))))
        _die_after(made, left, rng)
        try:
            if driver.run():
                break
        except _Killed:
            kills += 1
            _heal(made)
        assert kills < 200
    made.writer.close()
    study = made.study
    assert made.starts() == [1] * 10
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 10
    assert [t.number for t in study.trials] == list(range(1, 11))


class _Killed(BaseException):
    """SIGKILL, as far as the driver can tell: nothing after it runs."""


def _die_after(made, left, rng):
    """Raise at a random append or submission: before it, after it, or in the middle of a line."""
    journal, batch = made.writer._journal, made.batch
    append, submit = journal.append, batch.submit

    def dying(call, torn):
        def wrapped(argument):
            if next(left, None) is not None:
                return call(argument)
            when = rng.integers(3)
            if when == 0:
                call(argument)
            elif when == 1 and torn:
                with open(made.folder.journal, "ab") as f:
                    f.write(b'{"kind": "started", "tri')
            raise _Killed

        return wrapped

    journal.append = dying(append, True)
    batch.submit = dying(submit, False)
    made.unbroken = submit


def _heal(made):
    made.batch.submit = made.unbroken
