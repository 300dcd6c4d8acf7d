"""Jobs reported as gone whose trainings still run behind a broken network."""

import json

import pytest

from nodule_det.config.hpo import RetryConfig
from nodule_det.errors import ExitCode
from nodule_det.hpo.dispatch.base import JobReport, JobState
from nodule_det.hpo.driver.conclude import BUSY_AGAIN_S
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.study.trial import Reason, TrialState
from nodule_det.runs import RunFolder, RunResult, RunStatus
from tests.hpo.virtual_lab import HOUR, complete


def never_ends(overrides, attempt):
    return FakeRun(seconds=1e9, result=RunResult(status=RunStatus.RUNNING))


BUSY = FakeRun(seconds=5.0, result=RunResult(status=RunStatus.RUNNING), code=ExitCode.BUSY)


class CutNetwork:
    """A batch system that calls the first job gone from its start on; the others it reports."""

    def __init__(self, made):
        self.made = made
        poll = made.batch.poll
        gone = JobReport(JobState.GONE, "Exit_status -20")
        made.batch.poll = lambda ids: {
            i: gone if i == "1.fake" else r for i, r in poll(ids).items()
        }
        self.folder = made.folder.attempt(1, 1)
        self.beats = 0
        made.clock.next_event = lambda: None  # every step is 30 s

    def step(self, beat=False):
        if beat:
            self.beats += 1
            (self.folder / "heartbeat").write_text(f"{1_800_000_000 + 20 * self.beats}\n")
        self.made.driver.try_step()
        self.made.clock.sleep(30.0)

    def bring_result(self, value=0.75):
        result = {"status": "complete", "pauc": value, "pauc_se": 0.01}
        RunFolder(self.made.folder.trial(1)).result.write_text(json.dumps(result))
        (self.folder / "exit_code").write_text("0 1800003600.0\n")


@pytest.fixture
def cut(lab):
    made = lab(never_ends, trials=1)
    made.start()
    made.driver.try_step()
    return CutNetwork(made)


def trial(cut):
    return cut.made.study.trial(1)


def test_the_driver_waits_for_a_training_with_a_heartbeat(cut):
    for _ in range(200):
        cut.step(beat=True)
    assert (trial(cut).state, len(trial(cut).attempts)) == (TrialState.PENDING, 1)
    assert sum("still runs on node: waiting for it" in line for line in cut.made.said) == 1
    cut.bring_result()
    cut.step()
    assert (trial(cut).state, trial(cut).value) == (TrialState.COMPLETE, 0.75)
    assert len(trial(cut).attempts) == 1


def test_a_training_that_falls_silent_is_lost_and_made_to_end(cut):
    cut.step(beat=True)
    cut.step(beat=True)
    assert len(trial(cut).attempts) == 1
    for _ in range(3):
        cut.step()
    assert [a.reason for a in trial(cut).attempts] == [Reason.LOST, None]
    assert (cut.folder / "abandoned").exists()


def test_a_late_result_ends_the_attempt_that_replaced_it(cut):
    cut.made.batch._slots = 1  # the second job waits in the queue
    for _ in range(4):
        cut.step()
    assert len(trial(cut).attempts) == 2
    assert not (cut.made.folder.attempt(1, 2) / "claim").exists()
    cut.bring_result()
    cut.step()
    assert (trial(cut).state, trial(cut).value) == (TrialState.COMPLETE, 0.75)
    assert cut.made.batch._jobs["2.fake"].cancelled
    assert (cut.made.folder.attempt(1, 2) / "claim").read_text().startswith("closed ")


def test_a_late_result_of_a_failed_trial_counts(lab):
    made = lab(
        never_ends,
        trials=1,
        retries=RetryConfig(lost=0),
    )
    made.start()
    made.driver.try_step()
    cut = CutNetwork(made)
    for _ in range(4):
        cut.step()
    assert (trial(cut).state, trial(cut).reason) == (TrialState.FAILED, Reason.LOST)
    assert not (cut.folder / "abandoned").exists()  # nothing runs in its place
    cut.bring_result()
    made.start().try_step()  # also in another session
    assert (trial(cut).state, trial(cut).value, trial(cut).reason) == (
        TrialState.COMPLETE,
        0.75,
        None,
    )
    assert made.said[-1] == "trial 1 complete: 0.75 (its job was counted as lost, but completed)"


def test_a_job_that_finds_its_run_folder_in_use_uses_up_no_retry(lab):
    made = lab(
        lambda params, n: BUSY if n <= 5 else complete(params, n),
        trials=1,
        retries=RetryConfig(lost=0, error=0, killed=0),
    )
    trial = made.run().trial(1)
    assert [a.reason for a in trial.attempts] == [*[Reason.BUSY] * 5, None]
    assert trial.state is TrialState.COMPLETE
    assert 5 * BUSY_AGAIN_S < made.clock.monotonic() - HOUR < 5 * (BUSY_AGAIN_S + 100)


def test_other_trials_get_the_worker_of_one_whose_run_folder_is_in_use(lab):
    def busy_at_first(params, attempt):
        busy = attempt == 1 and params["run_dir"].endswith("0001")
        return BUSY if busy else complete(params, attempt)

    made = lab(busy_at_first, trials=2, workers=1)
    study = made.run()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 2
    first, second = study.trials
    assert second.attempts[0].submitted_s < first.attempts[1].submitted_s


def test_a_run_folder_that_stays_in_use_is_a_failure_in_the_end(lab):
    made = lab(lambda *_: BUSY, trials=1)
    trial = made.run().trial(1)
    assert (trial.state, trial.reason, len(trial.attempts)) == (
        TrialState.FAILED,
        Reason.BUSY,
        101,
    )
    assert trial.message == "its run folder is in use by another process"
