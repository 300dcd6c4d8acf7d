"""The driver on a batch system in memory: jobs that fail, are killed, or do not come back."""

import errno
from dataclasses import replace

import pytest

from nodule_det.config.hpo import RetryConfig
from nodule_det.errors import ExitCode, StudyError
from nodule_det.hpo.dispatch.base import JobState
from nodule_det.hpo.simulate.dispatcher import FakeRun, Faults
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


def test_a_training_whose_disk_was_full_is_resumed_and_does_not_count_as_a_bad_setup(lab):
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


def test_a_training_stopped_at_its_limit_resumes_where_it_was(lab):
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


def stopped_at(step, scans=0):
    result = RunResult(
        status=RunStatus.STOPPED, reason="wall_clock", step=step, n_scans_validated=scans
    )
    return FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)


def test_a_training_with_more_stops_than_allowed_fails(lab):
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


def test_a_validation_that_needs_several_jobs_is_progress(lab):
    def four_sessions(overrides, attempt):
        return stopped_at(700, scans=attempt) if attempt < 4 else complete(overrides, attempt)

    made = lab(four_sessions, trials=1)
    trial = made.run().trial(1)
    assert trial.state is TrialState.COMPLETE
    assert [a.reason for a in trial.attempts] == [*3 * [Reason.STOPPED], None]


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


def test_a_job_killed_by_a_signal_is_retried_once(lab):
    made = lab(failing(137, None), trials=1)
    trial = made.run().trial(1)
    assert [a.reason for a in trial.attempts] == [Reason.KILLED, Reason.KILLED]
    assert trial.message == "killed by signal 9"


@pytest.mark.parametrize("whole_job", [True, False])
def test_a_job_that_the_batch_system_killed_for_its_memory_is_not_retried(lab, whole_job):
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
def test_a_job_that_got_sigterm_for_its_memory_is_recognised_by_its_later_log(lab, code):
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


def test_the_driver_waits_for_an_unavailable_batch_system_before_it_judges_a_killed_job(lab):
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


def test_the_driver_waits_for_a_lock_that_is_temporarily_unreadable(lab):
    made = lab(trials=2)
    troubles = iter([OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale")])

    def beat():
        for trouble in troubles:
            raise trouble

    assert made.start().run(before_step=beat)
    assert made.starts() == [1] * 2
    assert sum("waiting" in line for line in made.said) == 2


@pytest.mark.parametrize(("comment", "why"), [("by its owner", ": by its owner"), ("", "")])
def test_a_held_job_is_reported_once(lab, comment, why):
    made = lab(trials=1)
    poll, held = made.batch.poll, iter([True] * 3)
    made.batch.poll = lambda ids: {
        i: replace(r, state=JobState.QUEUED, comment=comment, held=True) if next(held, False) else r
        for i, r in poll(ids).items()
    }
    made.run()
    said = [line for line in made.said if "held" in line]
    assert said == [f"job 1.fake of trial 1 is held until you release it{why}"]


def test_128_held_jobs_are_reported_in_one_line(lab):
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


def test_a_polls_comment_about_memory_is_kept_until_the_job_counts_as_ended(lab):
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


def test_a_complete_result_without_a_value_is_a_failure(lab):
    result = RunResult(status=RunStatus.COMPLETE, pauc=None)
    made = lab(lambda *_: FakeRun(seconds=60.0, result=result), trials=1)
    trial = made.run().trial(1)
    assert trial.state is TrialState.FAILED
    assert trial.message == "result.json has pauc=null but expected a number from 0 to 1"
