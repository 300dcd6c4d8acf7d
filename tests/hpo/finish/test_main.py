"""``python -m nodule_det.hpo.finish`` as a user runs it: a real study, real trainings, kills."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nodule_det.ensemble.folder import read_model
from nodule_det.hpo.study.study import read_study
from tests.train.tiny_run import WORDS

SPACE = "parameters: {optim.lr: {kind: float, low: 1e-4, high: 1e-2, log: true}}\n"
FAST = ("dispatcher.poll_s=0.05", "dispatcher.grace_s=1")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(name, *words):
    return [sys.executable, "-m", f"nodule_det.{name}", *FAST, *words]


def run(name, *words, code=0):
    done = subprocess.run(
        command(name, *words), capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def study(three_folds, tmp_path_factory):
    """Tune the learning rate in two trainings of a second each."""
    folder = tmp_path_factory.mktemp("finish")
    (folder / "space.yaml").write_text(SPACE)
    train = [f"train.{word}" for word in (f"store={three_folds}", "limits.epochs=1", *WORDS)]
    words = (f"study={folder / 's'}", f"search_space={folder / 'space.yaml'}", "trials=2")
    run("hpo", *words, "acquisition.strategy=random", *train)
    return folder / "s"


@pytest.fixture(scope="module")
def finished(study):
    """Finish it, killed twice on the way."""
    words = (f"study={study}", "settings=1", "bootstrap=50", "permutations=50")
    trials = study / "finish" / "trainings" / "trials"
    for n in (1, 3):
        process = subprocess.Popen(
            command("hpo.finish", *words),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
        while len(list(trials.glob("*/result.json"))) < n:
            assert process.poll() is None, "the command ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    return run("hpo.finish", *words).stdout


def test_every_training_ran_once_despite_two_kills(study, finished):
    trials = read_study(study / "finish" / "trainings").trials
    record = json.loads((study / "finish" / "finish.json").read_text())
    assert len(trials) == 3 * len(record["settings"])
    assert all(len(t.attempts) == 1 for t in trials)
    assert {t.params["seed"] for t in trials} == {0}


def test_the_setting_with_the_highest_cross_validated_pauc_is_chosen(study, finished):
    record = json.loads((study / "finish" / "finish.json").read_text())
    rows = record["settings"]
    assert max(rows, key=lambda row: row["pauc"])["trial"] == record["chosen"]
    assert sum(row["largest_observed"] for row in rows) == 1
    for row in rows:
        assert row["optimism"] == pytest.approx(row["observed"] - row["pauc"])
        assert row["n_scans"] == 6
    assert "<- chosen" in finished
    assert "the largest value of the study (trial " in finished


def test_the_model_has_a_network_of_every_fold_of_the_chosen_setting(study, finished):
    record = json.loads((study / "finish" / "finish.json").read_text())
    folder = study / "finish" / "model"
    model = read_model(folder)
    chosen = next(row for row in record["settings"] if row["chosen"])
    assert len(model.members) == 3
    assert float(model.settings["optim.lr"]) == chosen["params"]["optim.lr"]
    assert str(folder) in finished


def test_the_page_shows_every_setting(study, finished):
    page = (study / "finish" / "finish.html").read_text()
    record = json.loads((study / "finish" / "finish.json").read_text())
    for row in record["settings"]:
        assert f"optim.lr={row['params']['optim.lr']}" in page
    assert "<svg" in page


def test_a_study_without_a_complete_trial_is_refused(tmp_path, three_folds):
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    words = (f"study={tmp_path / 's'}", f"search_space={space}", "trials=1")
    run("hpo", *words, f"train.store={three_folds}", "dispatcher.setup=['exit 86']")
    error = run("hpo.finish", f"study={tmp_path / 's'}", code=1).stderr
    assert error.startswith("error: the study has no complete trial yet; continue it")


def test_a_study_of_another_program_is_refused(tmp_path, quick_training):
    words = ", ".join(quick_training)
    run("hpo", f"study={tmp_path / 's'}", f"command=[{words}]", "trials=1")
    error = run("hpo.finish", f"study={tmp_path / 's'}", code=2).stderr
    assert "the study tuned another program" in error
