"""``python -m nodule_det.hpo.finish`` as a user runs it: a real study, real trainings, kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from nodule_det.checkpoint import load_checkpoint
from nodule_det.ensemble.folder import read_model
from nodule_det.hpo.study.study import read_study
from nodule_det.origin import scan_key
from tests.train.tiny_run import WORDS, write_tiny_store

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
def study(tmp_path_factory):
    """Tune the learning rate in two trainings of a second each, beside a test set of 4 scans."""
    folder = tmp_path_factory.mktemp("finish")
    store = folder / "store"
    store.mkdir()
    write_tiny_store(store, scans=6, folds=3, test=4)
    (folder / "space.yaml").write_text(SPACE)
    train = [f"train.{word}" for word in (f"store={store}", "limits.epochs=1", *WORDS)]
    words = (f"study={folder / 's'}", f"search_space={folder / 'space.yaml'}", "trials=2")
    run("hpo", *words, "acquisition.strategy=random", *train)
    return folder / "s"


@pytest.fixture(scope="module")
def finished(study):
    """Finish it, killed twice on the way and once during the test."""
    words = (f"study={study}", "settings=1", "bootstrap=50", "permutations=50")
    trained, tested = "finish/trainings/trials/*/result.json", "test/*/trials/*/scans/*.json"
    for pattern, n in ((trained, 1), (trained, 3), (tested, 1)):
        process = subprocess.Popen(
            command("hpo.finish", *words),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT,
        )  # fmt: skip
        while len(list(study.glob(pattern))) < n:
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


def test_the_model_is_tested_once_and_its_figures_are_in_the_model_and_on_the_page(study, finished):
    (run,) = study.glob("test/*/trials/*/")
    (trial,) = read_study(run.parent.parent).trials
    assert len(trial.attempts) == 1
    froc = json.loads((run / "froc.json").read_text())
    record = json.loads((study / "finish" / "finish.json").read_text())
    test = record["test"]
    assert (test["label"], test["n_scans"], test["n_lesions"]) == ("test, evaluated once", 4, 8)
    assert test["pauc"] == froc["pauc"]
    assert read_model(study / "finish" / "model").figures["test"] == test
    gap = max(row["observed"] for row in record["settings"]) - test["pauc"]
    side = "above" if gap >= 0 else "below"
    line = f"the largest value of the study was {abs(gap):.3f} {side} that"
    assert line in finished
    assert line in (study / "finish" / "finish.html").read_text()


def test_no_network_of_the_model_has_seen_a_scan_of_the_test_set(study, finished):
    keys = {scan_key(f"1.2.{n}") for n in range(6, 10)}
    checkpoints = list(study.glob("finish/trainings/trials/*/best.pt"))
    assert len(checkpoints) >= 3
    for path in checkpoints:
        seen = load_checkpoint(path).meta.scans
        assert seen.known
        assert not keys & (seen.trained | seen.selected)


def test_the_same_command_again_tests_nothing(study, finished):
    before = sorted(study.glob("test/*/trials/*/attempt*"))
    run("hpo.finish", f"study={study}", "settings=1", "bootstrap=60", "permutations=50")
    assert sorted(study.glob("test/*/trials/*/attempt*")) == before
    assert len(list(study.glob("test/*/"))) == 1


def test_the_page_shows_every_setting(study, finished):
    page = (study / "finish" / "finish.html").read_text()
    record = json.loads((study / "finish" / "finish.json").read_text())
    for row in record["settings"]:
        assert f"{row['params']['optim.lr']:.4g}</td>" in page
    assert "<svg" in page


def test_a_fold_that_does_not_exist_is_refused_and_nothing_is_written(study, tmp_path):
    out = tmp_path / "out"
    error = run("hpo.finish", f"study={study}", "folds=[7]", f"out={out}", code=2).stderr
    assert "has no fold 7; it has [0, 1, 2]" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_damaged_model_is_refused_by_score_before_anything_is_written(study, finished, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(study / "finish" / "model", model)
    member = model / "member1.pt"
    member.write_bytes(member.read_bytes()[:-1])
    words = (f"model={model}", f"store={study.parent / 'store'}", f"run_dir={tmp_path / 'r'}")
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.score", *words],
        capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "member1.pt differs from the SHA-256 in model.json" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


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
