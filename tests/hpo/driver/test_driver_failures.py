"""The driver on a batch system in memory: jobs that fail, are killed, or do not come back."""

import errno
from dataclasses import replace

import pytest

from nodule_det.config.hpo import RetryConfig
from nodule_det.errors import ExitCode, StudyError
from nodule_det.hpo.dispatch.base import JobState, Refused, Unavailable
from nodule_det.hpo.simulate.dispatcher import FakeRun, Faults
from nodule_det.hpo.study.inbox import enqueue_cancel
from nodule_det.hpo.study.trial import Reason, TrialState
from nodule_det.runs import RunResult, RunStatus
from tests.hpo.virtual_lab import HOUR, complete, failing


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
    def three_sessions(overrides, attempt):
        if attempt == 3:
            return complete(overrides, attempt)
        result = RunResult(status=RunStatus.STOPPED, reason="wall_clock", step=100 * attempt)
        return FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)

    made = lab(three_sessions, trials=2)
    study = made.run()
    for trial in study.trials:
        assert [a.reason for a in trial.attempts] == [Reason.STOPPED, Reason.STOPPED, None]
        assert trial.state is TrialState.COMPLETE
        assert trial.seconds == pytest.approx(3 * HOUR, rel=1e-3)


def stopped_at(step):
    result = RunResult(status=RunStatus.STOPPED, reason="wall_clock", step=step)
    return FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)


def test_a_training_with_more_stops_than_allowed_is_given_up(lab):
    made = lab(lambda _, n: stopped_at(n), trials=1, retries=RetryConfig(stopped=5))
    trial = made.run().trial(1)
    assert (trial.state, trial.reason) == (TrialState.FAILED, Reason.STOPPED)
    assert len(trial.attempts) == 6


@pytest.mark.parametrize("step", [0, 700])
def test_two_stops_at_the_same_step_are_a_failure(lab, step):
    made = lab(lambda *_: stopped_at(step), trials=1)
    trial = made.run().trial(1)
    assert (trial.state, trial.reason) == (TrialState.FAILED, Reason.NO_PROGRESS)
    assert len(trial.attempts) == 2
    assert f"two jobs in a row stopped at the same point (step {step})" in trial.message


def test_every_training_without_progress_ends_the_driver(lab):
    made = lab(lambda *_: stopped_at(7))
    with pytest.raises(StudyError, match="no_progress, two jobs in a row stopped"):
        made.run()


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


def test_a_job_that_turns_up_after_its_answer_was_lost_runs_once(lab):
    made = lab(trials=4, faults=Faults(late={0: 7000.0, 2: 90.0, 5: 300.0}))
    study = made.run()
    made.clock.sleep(2 * HOUR)
    made.batch.poll([])
    assert made.starts() == [1] * 4
    assert [(t.state, len(t.attempts)) for t in study.trials] == [(TrialState.COMPLETE, 1)] * 4


def test_a_job_that_turns_up_after_its_trial_was_given_up_does_not_run(lab):
    made = lab(trials=1, faults=Faults(late={0: 600.0}))
    driver = made.start()
    driver.try_step()
    driver.stop_jobs()
    assert driver.run()
    assert made.study.trial(1).state is TrialState.CANCELLED
    made.clock.sleep(2 * HOUR)
    made.batch.poll([])
    assert made.starts() == []
    assert made.batch.busy_s == 0


def test_a_job_that_turns_up_after_its_attempt_was_lost_does_not_run_beside_the_next(lab):
    made = lab(trials=1, slots=1, faults=Faults(late={0: 2 * HOUR}))
    made.batch._queue_s = 900.0
    driver = made.start()
    made.clock.sleep(driver.try_step())
    driver.try_step()  # submitted again, since nobody knew it
    made.batch.cancel([made.study.trial(1).attempt.job])  # a person removes the waiting job
    assert driver.run()
    made.clock.sleep(4 * HOUR)
    made.batch.poll([])
    trial = made.study.trial(1)
    assert [a.reason for a in trial.attempts] == [Reason.LOST, None]
    assert made.batch.starts == {trial.attempts[1].name: 1}


def test_a_lock_that_cannot_be_read_for_a_moment_is_waited_for(lab):
    made = lab(trials=2)
    troubles = iter([OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale")])

    def beat():
        for trouble in troubles:
            raise trouble

    assert made.start().run(before_step=beat)
    assert made.starts() == [1] * 2
    assert sum("waiting" in line for line in made.said) == 2


def test_a_held_job_is_told_once(lab):
    made = lab(trials=1)
    poll, held = made.batch.poll, iter([True] * 3)
    made.batch.poll = lambda ids: {
        i: replace(r, state=JobState.QUEUED, comment="by its owner", held=True)
        if next(held, False)
        else r
        for i, r in poll(ids).items()
    }
    made.run()
    said = [line for line in made.said if "held" in line]
    assert said == ["job 1.fake of trial 1 is held until you release it: by its owner"]


def test_128_held_jobs_are_one_line(lab):
    made = lab(trials=128, workers=128)
    poll = made.batch.poll
    held = {"state": JobState.QUEUED, "comment": "Hold_Types=u", "held": True}
    made.batch.poll = lambda ids: {i: replace(r, **held) for i, r in poll(ids).items()}
    driver = made.start()
    for _ in range(3):
        driver.try_step()
    assert [line for line in made.said if "held" in line] == [
        "128 jobs (the first is 1.fake of trial 1) are held until you release them: Hold_Types=u"
    ]


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


IN_A_ROW = "trainings all ended in an error or vanished"


def test_a_wrong_setup_ends_the_study_after_three_failures(lab):
    made = lab(failing(ExitCode.BAD_INPUT, "bad_input"), workers=1, trials=100)
    with pytest.raises(StudyError, match=f"the last 3 {IN_A_ROW} and none"):
        made.run()
    assert len(made.study.trials) == 3


def test_a_node_that_fails_every_job_does_not_eat_the_study(lab):
    def fails_later(overrides, attempt):
        number = int(overrides["run_dir"][-4:])
        return complete(overrides, attempt) if number <= 5 else bad(overrides, attempt)

    bad = failing(ExitCode.BAD_INPUT, "bad_input")
    made = lab(fails_later, workers=1, trials=100)
    with pytest.raises(StudyError, match=f"the last 10 {IN_A_ROW}: the setup"):
        made.run()
    assert len(made.study.trials) == 15


def test_jobs_that_all_vanish_end_the_driver_before_they_eat_the_study(lab):
    made = lab(faults=Faults(crash_after={n: 0.001 for n in range(1000)}), workers=1, trials=100)
    with pytest.raises(StudyError, match=r"vanished and none .* Trial 3: lost, the job vanished"):
        made.run()
    assert [len(t.attempts) for t in made.study.trials] == [4] * 3


def test_the_failure_that_is_named_is_the_last_that_was_counted(lab):
    def bad_then_large(overrides, attempt):
        number = int(overrides["run_dir"][-4:])
        reason = "out_of_memory" if number == 4 else "bad_input"
        code = ExitCode.OUT_OF_MEMORY if number == 4 else ExitCode.BAD_INPUT
        return replace(failing(code, reason)(overrides, attempt), seconds=60.0 * (5 - number % 4))

    made = lab(bad_then_large, workers=4, trials=100)
    with pytest.raises(StudyError, match="Trial 1: bad_input"):
        made.run()


def test_a_failure_that_a_full_disk_keeps_out_of_the_journal_counts_once(lab):
    made = lab(failing(ExitCode.BAD_INPUT, "bad_input"), workers=1, trials=1)
    driver = made.start()
    append, tries = made.writer._journal.append, iter(range(20))

    def full(record):
        if record["kind"] == "finished" and next(tries) < 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(record)

    made.writer._journal.append = full
    assert driver.run()
    assert driver.notes.failures == 1


def test_a_site_that_refuses_for_a_day_is_waited_for_once_it_has_taken_a_job(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    submit, shut = made.batch.submit, made.clock.monotonic() + 24 * HOUR

    def refuses(job):
        if made.clock.monotonic() < shut:
            raise Refused("sbatch: error: Job violates the maintenance reservation")
        return submit(job)

    made.batch.submit = refuses
    assert driver.run()
    assert [t.state for t in made.study.trials] == [TrialState.COMPLETE] * 2
    assert made.clock.monotonic() < 26.5 * HOUR
    again = lab(workers=1, trials=1)
    again.batch.submit = refuses
    shut = float("inf")
    with pytest.raises(Refused):  # somebody has just started it
        again.run()


def test_cancellations_go_out_while_the_queue_is_full(lab):
    made = lab(workers=2, trials=2)
    submit = made.batch.submit

    def full(job):
        if len(made.batch.starts) == 1 and not made.study.trial(1).cancelling:
            raise Unavailable("qsub: would exceed queue generic's per-user limit")
        return submit(job)

    made.batch.submit = full
    driver = made.start()
    driver.try_step()
    enqueue_cancel(made.folder.queue, 1)
    assert driver.try_step() <= 60
    assert made.batch.busy_s == 0  # it had only just begun
    driver.try_step()
    assert made.study.trial(1).reason is Reason.USER


def test_a_complete_result_without_a_value_is_a_failure(lab):
    result = RunResult(status=RunStatus.COMPLETE, pauc=None)
    made = lab(lambda *_: FakeRun(seconds=60.0, result=result), trials=1)
    trial = made.run().trial(1)
    assert trial.state is TrialState.FAILED
    assert trial.message == "result.json has pauc=None, expected a number from 0 to 1"
