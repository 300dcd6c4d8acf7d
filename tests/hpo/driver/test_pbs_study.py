"""Complete studies on the PBS stand-in: lost answers, a full queue, a server down or frozen."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig, RetryConfig
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.dispatch.base import MissingCommand, Refused
from nodule_det.hpo.driver import collect
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.open_study import new_header, open_study, require_reachable
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.study import StudyFolder
from nodule_det.hpo.study.trial import Reason, TrialState


@pytest.fixture(params=["history on", "history off"])
def study(request, tmp_path, pbs_standin, quick_training):
    """Return a maker of drivers on one study, and what they say."""
    if request.param == "history on":
        (pbs_standin / "history").touch()
    said = []

    def drive(workers=3, lost=3, **site):
        dispatcher = DispatcherConfig(
            kind=DispatcherKind.pbs, walltime_s=600, poll_s=0.1, grace_s=0.2, timeout_s=1, **site
        )
        path = tmp_path / "my study"
        path.mkdir(exist_ok=True)
        config = HpoConfig(
            study=str(path),
            dispatcher=dispatcher,
            command=quick_training,
            workers=workers,
            trials=max(5, workers),
            retries=RetryConfig(lost=lost),
        )
        writer = open_study(StudyFolder(path), new_header(config, time.time()), time.time)
        return Driver(
            DriverContext(
                writer=writer,
                dispatcher=make_dispatcher(dispatcher),
                propose=propose_random,
                config=config,
                clock=WallClock(),
                workdir=Path.cwd(),
                say=said.append,
            )
        )

    return drive, said, tmp_path / "my study"


def finish(driver):
    end = time.monotonic() + 60
    while not driver.done():
        assert time.monotonic() < end
        driver.try_step()
        time.sleep(0.1)


def assert_each_ran_once(driver, path):
    assert {t.state for t in driver.study.trials} == {TrialState.COMPLETE}
    assert [p.read_text() for p in path.glob("trials/*/starts")] == ["start\n"] * 5


def test_a_lost_answer_is_resolved_by_querying_the_name(study, pbs_standin):
    drive, said, path = study
    (pbs_standin / "lose").touch()
    driver = drive()
    finish(driver)
    assert_each_ran_once(driver, path)
    assert any("qsub: End of File" in line for line in said)
    assert len(list(pbs_standin.glob("*.job"))) == 5


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("down", "cannot connect to server pbs01 (errno=15010)"),
        ("full", "would exceed queue generic's per-user limit"),
        ("frozen", "did not answer within 1 s"),
        ("ports", "Unable to authenticate connection (pbs01:15001)"),
        ("credential", "Invalid credential"),
    ],
)
def test_the_driver_waits_for_the_end_of_a_temporary_error(study, pbs_standin, trouble, words):
    drive, said, path = study
    driver = drive()
    (pbs_standin / trouble).touch()
    driver.try_step()
    (pbs_standin / trouble).unlink()
    assert any(words in line for line in said)
    finish(driver)
    assert_each_ran_once(driver, path)


def test_plain_qstat_works_as_well_as_the_detailed_one(study):
    drive, _, path = study
    driver = drive(poll_details=False)
    finish(driver)
    assert_each_ran_once(driver, path)


def test_a_resource_that_the_site_lacks_is_refused_at_once(study):
    drive, _, path = study
    with pytest.raises(Refused, match="Unknown resource: ngpus; correct the settings below"):
        drive(select="1:ngpus=1").step()
    driver = drive(select="1:ncpus=1")
    finish(driver)
    assert_each_ran_once(driver, path)


def test_a_qsub_that_lost_its_background_process_has_submitted_the_job(study, pbs_standin):
    drive, said, path = study
    (pbs_standin / "background").touch()
    driver = drive()
    finish(driver)
    assert_each_ran_once(driver, path)
    assert any("Failed to recv data from background qsub" in line for line in said)
    assert len(list(pbs_standin.glob("*.job"))) == 5


def test_the_driver_waits_for_commands_that_vanish_after_they_have_worked(
    study, pbs_standin, monkeypatch
):
    drive, said, path = study
    driver = drive()
    driver.try_step()
    with monkeypatch.context() as upgrade:
        upgrade.setenv("PATH", str(path))
        driver.try_step()
    assert any("the command qstat is not on the PATH" in line for line in said)
    finish(driver)
    assert_each_ran_once(driver, path)


def test_a_missing_batch_system_leaves_no_intent(study, monkeypatch):
    drive, _, path = study
    driver = drive()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PATH", str(path))
        with pytest.raises(MissingCommand, match="the command qsub is not on the PATH"):
            driver.try_step()
    assert driver.study.trial(1).attempt is None
    require_reachable(driver.study, DispatcherConfig())  # another dispatcher may take over
    finish(driver)
    assert_each_ran_once(driver, path)


def test_an_empty_answer_is_reported_and_loses_no_job(study, pbs_standin, monkeypatch):
    monkeypatch.setenv("QUICK_S", "3")
    drive, said, path = study
    driver = drive()
    driver.try_step()
    (pbs_standin / "empty").touch()
    for _ in range(6):
        driver.try_step()
    (pbs_standin / "empty").unlink()
    assert any("answer does not mention job" in line for line in said)
    assert len(driver.study.pending) == 3
    monkeypatch.setenv("QUICK_S", "0.05")
    finish(driver)
    assert_each_ran_once(driver, path)


def test_a_refused_deletion_is_reported_and_repeated(study, pbs_standin, monkeypatch):
    monkeypatch.setenv("QUICK_S", "5")
    drive, said, _ = study
    driver = drive(workers=1)
    driver.try_step()
    (pbs_standin / "no_mom").touch()
    driver.stop_jobs()
    driver.try_step()
    refused = [line for line in said if "may still run" in line]
    assert len(refused) == 1
    assert "qdel: Server could not connect to MOM 1.pbs01" in refused[0]
    assert refused[0].endswith("qdel -W force 1.pbs01")
    (pbs_standin / "no_mom").unlink()
    driver.notes.cancelled_at.clear()  # five minutes later
    finish(driver)
    assert driver.study.trial(1).state is TrialState.CANCELLED


def until(driver, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        driver.try_step()
        time.sleep(0.05)


def claims(path):
    return len(list(path.glob("trials/*/attempt_1/claim")))


@pytest.fixture
def cut_off(pbs_standin, monkeypatch):
    """Cut the network to the nodes, where all jobs freeze; returns how to repair them."""
    monkeypatch.setattr(collect, "SILENT_S", 0.5)
    monkeypatch.setenv("QUICK_S", "2")

    def cut(driver, path, n):
        until(driver, lambda: claims(path) == n)
        jobs = [json.loads(p.read_text()) for p in sorted(pbs_standin.glob("*.job"))]
        for job in jobs:
            os.killpg(job["pid"], signal.SIGSTOP)
        (pbs_standin / "cut").touch()
        driver.try_step()
        driver.try_step()
        (pbs_standin / "cut").unlink()
        monkeypatch.setenv("QUICK_S", "0.05")

        def repair():
            for job in jobs:
                os.killpg(job["pid"], signal.SIGCONT)

        return repair

    return cut


@pytest.mark.parametrize("study", ["history off"], indirect=True)
def test_trainings_behind_a_cut_network_are_waited_for(study, pbs_standin, monkeypatch):
    monkeypatch.setenv("QUICK_S", "2")
    drive, _, path = study
    driver = drive(workers=4)
    driver.try_step()
    until(driver, lambda: claims(path) == 4)
    (pbs_standin / "cut").touch()
    for _ in range(4):
        driver.try_step()
    (pbs_standin / "cut").unlink()
    finish(driver)
    assert_each_ran_once(driver, path)
    assert {len(t.attempts) for t in driver.study.trials} == {1}


@pytest.mark.parametrize("study", ["history off"], indirect=True)
def test_four_trainings_behind_a_cut_network_are_run_elsewhere(study, cut_off):
    drive, _, path = study
    driver = drive(workers=4)
    repair = cut_off(driver, path, 4)
    finish(driver)
    repair()
    trials = driver.study.trials
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert [a.reason for t in trials[:4] for a in t.attempts] == [Reason.LOST, None] * 4
    assert all((path / f"trials/000{n}/attempt_1/abandoned").exists() for n in range(1, 5))
    assert all(t.value == t.params["optim.beta1"] for t in trials)


@pytest.mark.parametrize("study", ["history off"], indirect=True)
def test_the_result_of_a_training_behind_a_cut_network_counts_although_it_is_late(
    study, cut_off, pbs_standin
):
    drive, _, path = study
    driver = drive(workers=1)
    repair = cut_off(driver, path, 1)
    (pbs_standin / "hold").touch()
    until(driver, lambda: len(driver.study.trial(1).attempts) == 2)
    repair()
    until(driver, lambda: not driver.study.trial(1).pending)
    (pbs_standin / "hold").unlink()
    finish(driver)
    assert_each_ran_once(driver, path)
    assert (path / "trials/0001/attempt_2/claim").read_text().startswith("closed ")
    assert [a.reason for a in driver.study.trial(1).attempts][:1] == [Reason.LOST]


@pytest.mark.parametrize("study", ["history off"], indirect=True)
def test_a_late_result_counts_although_its_trial_has_failed(study, cut_off):
    drive, said, path = study
    driver = drive(workers=1, lost=0)
    repair = cut_off(driver, path, 1)
    until(driver, lambda: driver.study.trial(1).state is TrialState.FAILED)
    repair()
    until(driver, lambda: driver.study.trial(1).state is TrialState.COMPLETE)
    finish(driver)
    assert_each_ran_once(driver, path)
    assert any("counted as lost, but completed" in line for line in said)
