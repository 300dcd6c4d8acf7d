"""The batch system in memory: jobs in virtual time, their files, scripted faults."""

import json

import pytest

from nodule_det.hpo.dispatch.base import Job, JobState, Unavailable
from nodule_det.hpo.driver.clock import VirtualClock
from nodule_det.hpo.simulate.dispatcher import FakeDispatcher, FakeRun, Faults, read_overrides
from nodule_det.hpo.study.trial import Observation
from nodule_det.hpo.training.files import read_claim, read_exit
from nodule_det.runs import RunResult, RunStatus

CURVE = (Observation(5, 0.25, 0.01), Observation(10, 0.5, 0.01))


def hundred_seconds(overrides, attempt):
    result = RunResult(status=RunStatus.COMPLETE, pauc=overrides["optim.lr"], pauc_se=0.01)
    return FakeRun(seconds=100.0, result=result, curve=CURVE)


@pytest.fixture
def job(tmp_path):
    def make(number):
        folder = tmp_path / f"{number:04d}" / "attempt_1"
        folder.mkdir(parents=True)
        (folder.parent / "overrides.txt").write_text("optim.lr=0.5\n")
        return Job(f"nd-cafe-{number}-1", folder)

    return make


def state(batch, job_id):
    return batch.poll([job_id])[job_id].state


def test_a_job_is_validated_and_writes_the_files_of_a_real_training(job):
    clock = VirtualClock(start_s=1000.0)
    batch = FakeDispatcher(clock, hundred_seconds)
    made = job(1)
    job_id = batch.submit(made)
    metrics = made.folder.parent / "metrics.jsonl"
    clock.sleep(50.0)
    assert state(batch, job_id) is JobState.RUNNING
    assert [json.loads(row)["pauc"] for row in metrics.read_text().splitlines()] == [0.25]
    assert read_exit(made.folder) is None
    clock.sleep(50.0)
    assert state(batch, job_id) is JobState.GONE
    assert [json.loads(row)["epoch"] for row in metrics.read_text().splitlines()] == [5, 10]
    assert json.loads((made.folder.parent / "result.json").read_text())["pauc"] == 0.5
    assert read_claim(made.folder).started_s == 1000.0
    assert (read_exit(made.folder).code, read_exit(made.folder).ended_s) == (0, 1100.0)


def test_jobs_beyond_the_slots_wait_for_one_that_ends(job):
    clock = VirtualClock()
    batch = FakeDispatcher(clock, hundred_seconds, slots=2)
    ids = [batch.submit(job(number)) for number in (1, 2, 3)]
    assert state(batch, ids[2]) is JobState.QUEUED
    clock.sleep(100.0)
    assert [state(batch, i) for i in ids] == [JobState.GONE, JobState.GONE, JobState.RUNNING]
    clock.sleep(100.0)
    assert state(batch, ids[2]) is JobState.GONE
    assert batch.busy_s == 300.0


def test_a_lost_answer_leaves_a_job_and_a_lost_submission_does_not(job):
    faults = Faults(answer_lost=frozenset({0}), never_arrived=frozenset({1}))
    batch = FakeDispatcher(VirtualClock(), hundred_seconds, faults=faults)
    there, missing = job(1), job(2)
    for one in (there, missing):
        with pytest.raises(Unavailable, match="connection lost"):
            batch.submit(one)
    assert batch.find(there) == "1.fake"
    assert batch.find(missing) is None


def test_a_crashed_node_and_a_cancellation_leave_no_exit_code(job):
    clock = VirtualClock()
    batch = FakeDispatcher(clock, hundred_seconds, faults=Faults(crash_after={0: 0.25}))
    crashed, cancelled = job(1), job(2)
    ids = [batch.submit(crashed), batch.submit(cancelled)]
    clock.sleep(40.0)
    batch.cancel([ids[1]])
    assert [state(batch, i) for i in ids] == [JobState.GONE, JobState.GONE]
    assert read_exit(crashed.folder) is read_exit(cancelled.folder) is None
    assert batch.busy_s == 25.0 + 40.0


def test_overrides_are_read_with_their_original_types(tmp_path):
    (tmp_path / "overrides.txt").write_text("optim.lr=1e-05\nmodel.residual=true\nname=one\nn=4\n")
    assert read_overrides(tmp_path) == {
        "optim.lr": 1e-5, "model.residual": True, "name": "one", "n": 4,
    }  # fmt: skip
