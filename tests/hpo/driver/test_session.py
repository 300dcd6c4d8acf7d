"""A session of the driver from start to its last line, with real jobs and a real Ctrl-C."""

import os
import signal
import sys
from dataclasses import replace

import pytest

from nodule_det.config.hpo import (
    AcquisitionConfig,
    DispatcherConfig,
    DispatcherKind,
    HpoConfig,
    Stop,
    Strategy,
)
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch.base import MissingCommand
from nodule_det.hpo.driver.forecast import Plan
from nodule_det.hpo.driver.session import INTERRUPTED, drive
from nodule_det.hpo.study.inbox import enqueue, enqueue_cancel
from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import Reason, TrialState

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def config(tmp_path, quick_training):
    """Return a study of two trials, one at a time, by processes of this machine."""
    return HpoConfig(
        study=str(tmp_path / "study"),
        command=quick_training,
        workers=1,
        trials=2,
        acquisition=AcquisitionConfig(strategy=Strategy.random),
        dispatcher=DispatcherConfig(poll_s=0.05, grace_s=0.5),
    )


def test_a_study_is_created_run_to_its_end_and_unlocked(config, tmp_path, capsys):
    assert drive(config) is None
    folder = tmp_path / "study"
    assert capsys.readouterr().out.startswith(f"{folder}: 2 complete, 0 failed")
    assert [t.state for t in read_study(folder).trials] == [TrialState.COMPLETE] * 2
    assert not (folder / "driver.lock").exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interrupted_driver_leaves_its_job_running_and_shows_how_to_cancel_it(
    config, tmp_path, monkeypatch, capsys, number
):
    training = tmp_path / "training.sh"
    training.write_text(f"kill -{int(number)} {os.getpid()}\nexec sleep 60\n")
    config = replace(config, command=["bash", str(training)])
    monkeypatch.setattr(sys, "argv", ["hpo", f"study={config.study}", "command=[bash,t.sh]"])
    before = [signal.getsignal(n) for n in SIGNALS]
    assert drive(config) == INTERRUPTED == 130
    assert [signal.getsignal(n) for n in SIGNALS] == before
    again = f"python -m nodule_det.hpo study={config.study} 'command=[bash,t.sh]' stop=jobs"
    assert capsys.readouterr().out.rstrip().endswith(again)
    assert read_study(tmp_path / "study").trial(1).pending
    assert drive(replace(config, stop=Stop.jobs)) is None
    (trial,) = read_study(tmp_path / "study").trials
    assert (trial.state, trial.reason) == (TrialState.CANCELLED, Reason.USER)


def test_a_dry_run_prints_the_first_job_and_writes_nothing(config, tmp_path, capsys):
    assert drive(replace(config, dry_run=True)) is None
    assert capsys.readouterr().out.startswith("# trial 1 (")
    assert list(tmp_path.iterdir()) == []


def test_a_command_with_a_plan_runs_its_points_and_no_others(config, tmp_path):
    """A user cancelled one of its trainings, and the driver proposed a random one instead."""
    space, queue = tmp_path / "space.yaml", tmp_path / "study" / "queue"
    space.write_text("parameters: {optim.lr: {kind: float, low: 1e-3, high: 1e-1}}")

    def enqueue_two():
        assert (tmp_path / "study" / "journal.jsonl").exists()  # nothing is refused any more
        enqueue(queue, {"optim.lr": 0.01}, "a_0.json")
        enqueue(queue, {"optim.lr": 0.02}, "b_0.json")
        enqueue_cancel(queue, 2).rename(queue / "c.json")  # read last

    plan = Plan("crossval", ({"optim.lr": 0.01},), enqueue=enqueue_two)
    assert drive(replace(config, trials=9, search_space=str(space)), plan) is None
    states = [(t.params["optim.lr"], t.state.value) for t in read_study(tmp_path / "study").trials]
    assert states == [(0.01, "complete"), (0.02, "cancelled")]


def test_a_plan_queues_nothing_in_a_study_of_other_trainings(config, tmp_path):
    drive(config)
    plan = Plan("crossval", ({},), enqueue=lambda: pytest.fail("queued in another study"))
    with pytest.raises(StudyError, match="was created with another command"):
        drive(replace(config, command=["true"]), plan)


def test_jobs_of_a_study_that_does_not_exist_cannot_be_cancelled(config, tmp_path):
    with pytest.raises(StudyError, match=r"stop=jobs: .*study is not a study"):
        drive(replace(config, stop=Stop.jobs))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_batch_system_is_refused_before_a_folder_is_created(
    config, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    site = DispatcherConfig(kind=DispatcherKind.pbs)
    with pytest.raises(MissingCommand, match="kind=pbs needs the command qsub"):
        drive(replace(config, study=str(tmp_path / "study"), dispatcher=site))
    assert list(tmp_path.iterdir()) == []
