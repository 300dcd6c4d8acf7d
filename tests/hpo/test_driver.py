"""The driver on a batch system in memory: a study of days passes in a moment, with every fault."""

import errno
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virtual_lab import HOUR, SPACE, Lab, complete, failing

from nodule_det.config.hpo import Failures, RetryConfig, StoppingConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch.fake import FakeRun, Faults
from nodule_det.hpo.dispatch.job import JobState, Unavailable
from nodule_det.hpo.evidence import gather
from nodule_det.hpo.features import Features
from nodule_det.hpo.queue import put, put_cancel
from nodule_det.hpo.trial import Observation, Reason, TrialState
from nodule_det.runs import ExitCode, RunResult, RunStatus


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


def test_a_lost_answer_does_not_start_a_job_twice(lab):
    made = lab(faults=Faults(answer_lost=frozenset({0, 3, 4}), never_arrived=frozenset({1, 7})))
    study = made.run()
    assert made.starts() == [1] * 12
    assert all(t.state is TrialState.COMPLETE and len(t.attempts) == 1 for t in study.trials)


def test_a_scheduler_away_for_an_hour_costs_an_hour_at_most(lab):
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


def test_a_requeued_job_is_waited_for(lab):
    made = lab(faults=Faults(requeue_after={2: 0.5}))
    study = made.run()
    assert made.starts() == [1] * 11 + [2]
    assert all(len(t.attempts) == 1 for t in study.trials)


def test_a_crashed_node_is_retried_and_counts_its_hours(lab):
    made = lab(faults=Faults(crash_after={0: 0.5}))
    study = made.run()
    trial = study.trial(1)
    assert trial.state is TrialState.COMPLETE
    assert [a.reason for a in trial.attempts] == [Reason.LOST, None]
    assert trial.seconds == pytest.approx(1.5 * HOUR, rel=0.06)


def test_a_training_whose_disk_was_full_goes_on_and_is_no_failure_of_the_setup(lab):
    def full_at_first(overrides, attempt):
        if attempt == 2:
            return complete(overrides, attempt)
        return failing(ExitCode.UNWRITTEN, "error")(overrides, attempt)

    made = lab(full_at_first, trials=4)
    study = made.run()
    assert [[a.reason for a in t.attempts] for t in study.trials] == [[Reason.LOST, None]] * 4
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_a_trial_that_crashes_every_node_fails_after_its_retries(lab):
    crashes = {n: 0.1 for n in range(100)}
    made = lab(faults=Faults(crash_after=crashes), trials=1, workers=1, retries=RetryConfig(lost=2))
    trial = made.run().trial(1)
    assert (trial.state, trial.reason) == (TrialState.FAILED, Reason.LOST)
    assert len(trial.attempts) == 3


def test_a_training_stopped_at_its_limit_goes_on_where_it_was(lab):
    def three_sittings(overrides, attempt):
        if attempt == 3:
            return complete(overrides, attempt)
        result = RunResult(status=RunStatus.STOPPED, reason="wall_clock")
        return FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)

    made = lab(three_sittings, trials=2)
    study = made.run()
    for trial in study.trials:
        assert [a.reason for a in trial.attempts] == [Reason.STOPPED, Reason.STOPPED, None]
        assert trial.state is TrialState.COMPLETE
        assert trial.seconds == pytest.approx(3 * HOUR, rel=1e-3)


def test_a_training_that_never_gets_further_is_given_up(lab):
    result = RunResult(status=RunStatus.STOPPED, reason="wall_clock")
    stopped = FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)
    made = lab(lambda *_: stopped, trials=1, retries=RetryConfig(stopped=5))
    trial = made.run().trial(1)
    assert (trial.state, trial.reason, len(trial.attempts)) == (
        TrialState.FAILED,
        Reason.STOPPED,
        6,
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [(ExitCode.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY), (ExitCode.DIVERGED, Reason.DIVERGED)],
)
def test_an_outcome_of_the_parameters_is_not_retried(lab, code, reason):
    made = lab(failing(code, str(reason)), trials=5)
    study = made.run()
    assert [t.reason for t in study.trials] == [reason] * 5
    assert [t.message for t in study.trials] == ["as the test wants it"] * 5
    assert made.starts() == [1] * 5


def test_a_job_killed_by_a_signal_is_tried_once_more(lab):
    made = lab(failing(137, None), trials=1)
    trial = made.run().trial(1)
    assert [a.reason for a in trial.attempts] == [Reason.KILLED, Reason.KILLED]
    assert trial.message == "killed by signal 9"


@pytest.mark.parametrize("whole_job", [True, False])
def test_a_job_that_the_batch_system_killed_for_its_memory_is_not_tried_again(lab, whole_job):
    made = lab(
        failing(137, None), trials=1, faults=Faults(crash_after={0: 0.9} if whole_job else {})
    )
    driver = made.start()
    driver.try_step()
    log = made.folder.attempt(1, 1) / "job.log"
    log.write_text("=>> PBS: job killed: mem 379112kb exceeded limit 102400kb\n")
    assert driver.run()
    trial = made.study.trial(1)
    assert (trial.state, trial.reason) == (TrialState.FAILED, Reason.OUT_OF_MEMORY)
    assert "mem 379112kb exceeded limit 102400kb" in trial.message
    assert made.starts() == [1]


@pytest.mark.parametrize("code", [143, ExitCode.STOPPED])
def test_a_job_that_got_sigterm_for_its_memory_is_known_by_the_log_that_comes_later(lab, code):
    # OpenPBS 23.06.06: SIGTERM, the job writes its exit code, and the log is there when it is gone.
    made = lab(failing(code, None), trials=1)
    driver = made.start()
    poll = made.batch.poll

    def log_comes_with_the_end(ids):
        reports = poll(ids)
        if any(report.state is JobState.GONE for report in reports.values()):
            (made.folder.attempt(1, 1) / "job.log").write_text(
                "=>> PBS: job killed: mem 422496kb exceeded limit 61440kb\nTerminated\n"
            )
        return reports

    made.batch.poll = log_comes_with_the_end
    assert driver.run()
    trial = made.study.trial(1)
    assert (trial.state, trial.reason) == (TrialState.FAILED, Reason.OUT_OF_MEMORY)
    assert made.starts() == [1]


def test_a_batch_system_that_is_away_is_waited_for_before_a_killed_job_is_judged(lab):
    made = lab(failing(143, None), trials=1, faults=Faults(down=((1.0, 6 * HOUR),)))
    driver = made.start()
    driver.try_step()
    while made.clock.monotonic() < 5 * HOUR:
        made.clock.sleep(driver.try_step())
    assert made.study.trial(1).pending
    (made.folder.attempt(1, 1) / "job.log").write_text(
        "=>> PBS: job killed: mem 422496kb exceeded limit 61440kb\n"
    )
    assert driver.run()
    assert made.study.trial(1).reason is Reason.OUT_OF_MEMORY


def test_a_cancellation_without_an_answer_is_sent_again_at_the_next_step(lab):
    made = lab(trials=1)
    driver = made.start()
    driver.try_step()
    cancel, calls = made.batch.cancel, []

    def away_at_first(ids):
        calls.append(list(ids))
        if len(calls) == 1:
            raise Unavailable("qdel: cannot connect to server pbs01 (errno=15010)")
        cancel(ids)

    made.batch.cancel = away_at_first
    driver.stop_jobs()
    driver.try_step()
    driver.try_step()
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_a_held_job_is_told_once(lab):
    made = lab(trials=1)
    poll, held = made.batch.poll, iter([True] * 3)
    made.batch.poll = lambda ids: {
        i: replace(r, state=JobState.QUEUED, comment="held by Hold_Types=u")
        if next(held, False)
        else r
        for i, r in poll(ids).items()
    }
    made.run()
    told = [line for line in made.said if "held" in line]
    assert len(told) == 1
    assert told[0].endswith("of trial 1 waits for you: held by Hold_Types=u")


def test_the_word_of_a_poll_about_memory_is_kept_until_the_job_is_given_up(lab):
    made = lab(trials=1, faults=Faults(crash_after={0: 0.5}))
    poll = made.batch.poll
    words = iter(["OUT_OF_MEMORY OutOfMemory"])

    def tells_once(ids):
        gone = JobState.GONE
        return {
            i: replace(r, comment=next(words, "unknown")) if r.state is gone else r
            for i, r in poll(ids).items()
        }

    made.batch.poll = tells_once
    trial = made.run().trial(1)
    assert trial.reason is Reason.OUT_OF_MEMORY
    assert trial.message == "killed by the batch system: OUT_OF_MEMORY OutOfMemory"


def test_a_wrong_setup_ends_the_study_after_three_failures(lab):
    made = lab(failing(ExitCode.BAD_INPUT, "bad_input"), workers=1, trials=100)
    with pytest.raises(StudyError, match="the last 3 trainings all ended in an error and none"):
        made.run()
    assert len(made.study.trials) == 3


def test_a_node_that_fails_every_job_does_not_eat_the_study(lab):
    def fails_later(overrides, attempt):
        number = int(overrides["run_dir"][-4:])
        return complete(overrides, attempt) if number <= 5 else bad(overrides, attempt)

    bad = failing(ExitCode.BAD_INPUT, "bad_input")
    made = lab(fails_later, workers=1, trials=100)
    with pytest.raises(StudyError, match=r"the last 10 trainings all ended in an error: the setup"):
        made.run()
    assert len(made.study.trials) == 15


def test_a_complete_result_without_a_value_is_a_failure(lab):
    result = RunResult(status=RunStatus.COMPLETE, pauc=None)
    made = lab(lambda *_: FakeRun(seconds=60.0, result=result), trials=1)
    trial = made.run().trial(1)
    assert trial.state is TrialState.FAILED
    assert trial.message == "result.json is complete, but has pauc=None"


def test_a_budget_of_node_hours_ends_the_study(lab):
    study = lab(trials=1000, node_hours=10.0).run()
    assert 10 <= len(study.trials) <= 10 + 4
    assert not study.pending


def test_first_points_come_first_then_the_queue(lab):
    made = lab(trials=6, workers=1)
    first = ({"optim.lr": 0.003}, {"optim.lr": 0.004})
    made.space = replace(SPACE, first=first)
    put(made.folder.queue, {"optim.lr": 0.005})
    study = made.run()
    assert [t.params["optim.lr"] for t in study.trials[:3]] == [0.005, 0.003, 0.004]
    assert [t.source for t in study.trials] == ["user", "first", "first", *["random"] * 3]
    assert list(made.folder.queue.iterdir()) == []


def test_an_imported_result_is_known_but_is_no_job_of_ours(lab):
    made = lab(trials=3)
    put(
        made.folder.queue,
        {"optim.lr": 0.009},
        {"state": "complete", "value": 0.95, "imported_seconds": 60.0},
    )
    study = made.run()
    assert study.best().source == "imported"
    assert len(study.own) == 3
    assert study.node_seconds(0.0) == pytest.approx(3 * HOUR, rel=1e-3)


def test_an_entry_of_the_queue_is_taken_once_though_the_driver_died(lab):
    made = lab(trials=2)
    path = put(made.folder.queue, {"optim.lr": 0.005})
    made.start()
    made.writer.ask({"optim.lr": 0.005}, "user", path.name)  # killed before it removed the file
    study = made.run()
    assert [t.source for t in study.trials] == ["user", "random"]


def test_a_wrong_entry_of_the_queue_is_said_once_and_left(lab):
    made = lab(trials=2)
    path = put(made.folder.queue, {"optim.lr": 5})
    made.run()
    said = [line for line in made.said if "cannot be taken" in line]
    assert len(said) == 1
    assert "optim.lr=5 lies outside [0.001, 0.01]" in said[0]
    assert path.exists()


def test_stopping_cancels_all_jobs_and_frees_them(lab):
    made = lab()
    driver = made.start()
    driver.try_step()
    driver.stop_jobs()
    assert driver.run()
    assert [(t.state, t.reason) for t in made.study.trials] == [
        (TrialState.CANCELLED, Reason.USER)
    ] * 4
    assert len(made.run().own) == 12 + 4  # what a person cancelled does not count


def test_a_person_gives_up_one_trial_and_the_others_go_on(lab):
    made = lab(workers=2, trials=4)
    driver = made.start()
    driver.try_step()
    path = put_cancel(made.folder.queue, 2)
    assert driver.run()
    study = made.study
    assert not path.exists()
    assert (study.trial(2).state, study.trial(2).reason) == (TrialState.CANCELLED, Reason.USER)
    assert made.batch.busy_s == pytest.approx(4 * HOUR)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 4  # it did not count
    assert len(gather(Features(SPACE), study.trials, Failures.model).outcomes) == 4


def test_a_trial_is_given_up_by_the_next_driver_where_none_was_running(lab):
    made = lab(workers=2, trials=4)
    made.start().try_step()
    put_cancel(made.folder.queue, 1)
    assert made.start().run()  # another sitting
    assert made.study.trial(1).reason is Reason.USER


def test_a_trial_that_waits_for_a_worker_is_given_up_without_a_job(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    put(made.folder.queue, {"optim.lr": 0.005})
    driver.try_step()
    assert made.study.trial(2).source == "user"
    put_cancel(made.folder.queue, 2)
    assert driver.run()
    assert (made.study.trial(2).reason, made.study.trial(2).attempts) == (Reason.USER, ())


def test_giving_up_twice_is_once_and_giving_up_what_is_over_is_said(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    put_cancel(made.folder.queue, 1)
    put_cancel(made.folder.queue, 1)
    put_cancel(made.folder.queue, 99)
    assert driver.run()
    put_cancel(made.folder.queue, 2)
    driver.try_step()
    assert sum("is cancelled: user" in line for line in made.said) == 1
    assert "trial 99 cannot be cancelled: it is not in this study" in made.said
    assert "trial 2 cannot be cancelled: it is complete already" in made.said


def test_hopeless_trainings_are_stopped_early_with_their_curve(lab):
    def rising(overrides, attempt):
        run = complete(overrides, attempt)
        curve = [Observation(e, run.result.pauc * e / 45, 0.001) for e in range(5, 46, 5)]
        return replace(run, curve=tuple(curve))

    made = lab(rising, trials=30, stopping=StoppingConfig(on=True))
    study = made.run()
    stopped = [t for t in study.trials if t.reason is Reason.EARLY_STOPPED]
    assert 10 <= len(stopped) <= 25
    assert all(t.state is TrialState.CANCELLED and t.curve for t in stopped)
    assert all(len(t.curve) == 9 for t in study.trials if t.state is TrialState.COMPLETE)
    best_lr = max(t.params["optim.lr"] for t in study.trials)
    assert study.best().params["optim.lr"] == best_lr
    assert study.node_seconds(0.0) < 20 * HOUR


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


def test_a_full_disk_is_waited_for(lab, monkeypatch):
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
