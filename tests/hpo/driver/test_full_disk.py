"""A study on a real disk that is full for a while."""

import contextlib
import time
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig, HpoConfig
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.open_study import new_header, open_study
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.study.trial import TrialState
from nodule_det.hpo.view.live import Display


def fill(path):
    with open(path, "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 4096)


def test_a_study_waits_for_free_space_and_every_job_runs_once(small_disk, quick_training):
    disk = small_disk("400k")
    path = disk / "s"
    path.mkdir()
    site = DispatcherConfig(poll_s=0.05, grace_s=0.3)
    config = HpoConfig(
        study=str(path), dispatcher=site, command=quick_training, workers=2, trials=8
    )
    said: list[str] = []
    writer = open_study(StudyFolder(path), new_header(config, time.time()), time.time)
    driver = Driver(
        DriverContext(
            writer=writer,
            dispatcher=make_dispatcher(site),
            propose=propose_random,
            config=config,
            clock=WallClock(),
            workdir=Path.cwd(),
            say=said.append,
        )
    )
    while len(said) < 2:  # two trials are complete
        driver.try_step()
        time.sleep(0.05)
    # Running jobs may need the space: wait for their end, so that only the driver meets the limit.
    config.workers = 0
    while driver.study.pending:
        driver.try_step()
        time.sleep(0.05)
    config.workers = 2
    fill(disk / "filler")
    for _ in range(5):
        driver.try_step()
    assert any("No space left on device" in line and str(path) in line for line in said)
    (disk / "filler").unlink()
    end = time.monotonic() + 60
    while not driver.done():
        assert time.monotonic() < end
        driver.try_step()
        time.sleep(0.05)
    study = read_study(path)
    assert [(t.number, t.state) for t in study.trials] == [
        (n, TrialState.COMPLETE) for n in range(1, 9)
    ]
    assert [p.read_text() for p in path.glob("trials/*/starts")] == ["start\n"] * 8
    assert study.problems == []


def test_a_log_on_a_full_disk_does_not_end_the_study_and_reports_it_later(small_disk):
    disk = small_disk("40k")
    with open(disk / "log", "w", encoding="utf-8") as stream:
        shown = Display(stream, trials=4, workers=1)
        shown.say("before")
        fill(disk / "filler")
        for number in range(2000):  # more than what is still free, and any buffer, would take
            shown.say(f"trial {number} complete")
        (disk / "filler").unlink()
        shown.say("after")
        shown.say("later")
    lines = (disk / "log").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("before")
    assert lines[-3] == "some lines of this log could not be written: No space left on device"
    assert [line.split()[-1] for line in lines[-2:]] == ["after", "later"]
