"""Real drivers killed by SIGKILL at random moments: every job runs exactly once, none is lost."""

import os
import random
import signal
import subprocess
import sys
import time

from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.study.trial import TrialState

KILLS = 8
"""A few here; ``bench/soak.py`` does hundreds."""
DRIVER = """
import sys
from nodule_det.config.hpo import AcquisitionConfig, DispatcherConfig, HpoConfig, Strategy
from nodule_det.hpo.study.lock import StudyLock
from nodule_det.hpo.driver.open_study import new_header
from nodule_det.hpo.driver.session import run_session
from nodule_det.hpo.study.study import StudyFolder
from pathlib import Path
folder = StudyFolder(Path(sys.argv[1]))
config = HpoConfig(
    study=sys.argv[1], workers=4, trials=int(sys.argv[2]), command=sys.argv[3:],
    acquisition=AcquisitionConfig(strategy=Strategy.random),
    dispatcher=DispatcherConfig(poll_s=0.02, grace_s=0.5),
)
with StudyLock(folder.lock) as lock:
    sys.exit(run_session(folder, config, new_header(config, 0.0), lock, sys.stderr))
"""


def start(folder, trials, command):
    words = [sys.executable, "-c", DRIVER, str(folder), str(trials), *command]
    environment = {**os.environ, "QUICK_S": "0.15"}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def test_a_driver_killed_at_random_moments_runs_every_job_exactly_once(tmp_path, quick_training):
    rng = random.Random(1)
    trials = 30
    for _ in range(KILLS):
        with start(tmp_path, trials, quick_training) as driver:
            time.sleep(0.3)  # its imports
            time.sleep(rng.uniform(0.0, 0.4))
            driver.kill()
            driver.communicate()
    with start(tmp_path, trials, quick_training) as driver:
        said, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, said
    study = read_study(tmp_path)
    folder = StudyFolder(tmp_path)
    assert [t.number for t in study.trials] == list(range(1, trials + 1))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    starts = [(folder.trial(n) / "starts").read_text() for n in range(1, trials + 1)]
    assert starts == ["start\n"] * trials
    assert [t.value for t in study.trials] == [t.params["optim.beta1"] for t in study.trials]
    assert not folder.lock.exists()


def test_ctrl_c_leaves_jobs_running_and_shows_how_to_continue(tmp_path, quick_training):
    with start(tmp_path, 8, quick_training) as driver:
        while not (tmp_path / "trials" / "0001" / "attempt_1" / "claim").exists():
            assert driver.poll() is None
            time.sleep(0.02)
        driver.send_signal(signal.SIGINT)
        said, _ = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert " without the driver.\nTo continue the study:" in said
    assert "stop=jobs" in said
    with start(tmp_path, 8, quick_training) as driver:
        driver.communicate(timeout=60)
    assert driver.returncode == 0
    starts = [p.read_text() for p in tmp_path.glob("trials/*/starts")]
    assert starts == ["start\n"] * 8
