"""Whole studies on the stand-in for PBS: lost answers, a full queue, a server down and frozen."""

import time
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.dispatch.base import Refused
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.open_study import new_header, open_study
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.study import StudyFolder
from nodule_det.hpo.study.trial import TrialState


@pytest.fixture(params=["history on", "history off"])
def study(request, tmp_path, pbs_standin, quick_training):
    """Return a maker of drivers on one study, and what they say."""
    if request.param == "history on":
        (pbs_standin / "history").touch()
    said = []

    def drive(**site):
        dispatcher = DispatcherConfig(
            kind=DispatcherKind.pbs, walltime_s=600, poll_s=0.1, grace_s=0.2, timeout_s=1, **site
        )
        path = tmp_path / "s"
        path.mkdir(exist_ok=True)
        config = HpoConfig(
            study=str(path), dispatcher=dispatcher, command=quick_training, workers=3, trials=5
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

    return drive, said, tmp_path / "s"


def finish(driver):
    end = time.monotonic() + 60
    while not driver.done():
        assert time.monotonic() < end
        driver.try_step()
        time.sleep(0.1)


def assert_each_ran_once(driver, path):
    assert {t.state for t in driver.study.trials} == {TrialState.COMPLETE}
    assert [p.read_text() for p in path.glob("trials/*/starts")] == ["start\n"] * 5


def test_a_lost_answer_is_settled_by_asking_for_the_name(study, pbs_standin):
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
        ("frozen", "gave no answer in 1 s"),
    ],
)
def test_a_trouble_that_passes_is_waited_for(study, pbs_standin, trouble, words):
    drive, said, path = study
    driver = drive()
    (pbs_standin / trouble).touch()
    driver.try_step()
    (pbs_standin / trouble).unlink()
    assert any(words in line for line in said)
    finish(driver)
    assert_each_ran_once(driver, path)


def test_plain_qstat_does_as_well_as_the_detailed_one(study):
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
