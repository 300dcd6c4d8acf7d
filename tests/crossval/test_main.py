"""``python -m nodule_det.crossval`` as a user runs it: real trainings, real kills."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest

from nodule_det.checkpoint import load_checkpoint
from nodule_det.ensemble.folder import read_model
from nodule_det.hpo.study.study import read_study
from nodule_det.origin import ScanRecord
from tests.crossval.run_crossval import crossval, kill_when
from tests.train.tiny_run import write_tiny_store


@pytest.fixture(scope="module")
def done(three_folds, tmp_path_factory):
    """A cross-validation that was killed twice on the way and then completed."""
    out = tmp_path_factory.mktemp("cv") / "out"
    trials = out / "trainings" / "trials"
    kill_when(three_folds, out, lambda: (out / "trainings" / "journal.jsonl").exists())
    kill_when(three_folds, out, lambda: len(list(trials.glob("*/result.json"))) >= 2)
    return out, crossval(three_folds, out).stdout


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_kills_neither_lose_nor_repeat_a_training(done):
    out, _ = done
    trials = read_study(out / "trainings").trials
    assert [t.params for t in trials] == [
        {"fold": 1, "test_fold": 0},
        {"fold": 2, "test_fold": 1},
        {"fold": 0, "test_fold": 2},
    ]
    assert [len(t.attempts) for t in trials] == [1, 1, 1]


def test_every_scan_is_scored_once_by_a_network_of_other_folds(done):
    out, _ = done
    scans = {row["seriesuid"]: int(row["fold"]) for row in rows(out / "scans.csv")}
    assert scans == {f"1.2.{n}": n % 3 for n in range(6)}
    for trial in read_study(out / "trainings").trials:
        run = out / "trainings" / "trials" / f"{trial.number:04d}"
        tested = {row["seriesuid"] for row in rows(run / "test" / "scans.csv")}
        chosen_on = {row["seriesuid"] for row in rows(run / "scans.csv")}
        assert tested == {u for u, fold in scans.items() if fold == trial.params["test_fold"]}
        assert chosen_on == {u for u, fold in scans.items() if fold == trial.params["fold"]}


def test_the_pooled_figures_are_those_of_evaluate_on_the_pooled_tables(done, tmp_path):
    out, _ = done
    names = {"candidates": "candidates", "annotations": "annotations", "scans": "scans"}
    names["excluded"] = "annotations_excluded"
    words = [f"{setting}={out / name}.csv" for setting, name in names.items()]
    subprocess.run(
        [sys.executable, "-m", "nodule_det.evaluate", *words, "bootstrap=50", f"out={tmp_path}"],
        check=True, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    by_hand = json.loads((tmp_path / "froc.json").read_text())
    assert json.loads((out / "froc.json").read_text()) == by_hand
    assert by_hand["n_scans"] == 6
    assert by_hand["n_lesions"] == 12
    summary = json.loads((out / "crossval.json").read_text())
    assert summary["pauc"] == by_hand["pauc"]
    assert [fold["n_lesions"] for fold in summary["folds"]] == [4, 4, 4]


def test_the_input_files_of_the_luna16_script_are_written(done):
    out, _ = done
    luna16 = out / "luna16"
    assert (luna16 / "seriesuids.csv").read_text().split() == [
        "1.2.0", "1.2.3", "1.2.1", "1.2.4", "1.2.2", "1.2.5",
    ]  # fmt: skip
    head = (luna16 / "submission.csv").read_text().splitlines()[0]
    assert head == "seriesuid,coordX,coordY,coordZ,probability"
    assert len(rows(luna16 / "annotations.csv")) == 12
    assert len(rows(luna16 / "annotations_excluded.csv")) == 6
    assert len(rows(luna16 / "submission.csv")) == len(rows(out / "candidates.csv"))


def test_figures_and_a_line_per_fold_are_written(done):
    out, text = done
    assert {"froc.png", "folds.png"} <= {path.name for path in out.iterdir()}
    assert "fold 0: 4 lesions in 2 scans, pAUC " in text
    assert "cross-validated: each fold evaluated once, its checkpoint chosen on another" in text


def test_running_the_same_command_again_trains_nothing(done, three_folds):
    out, _ = done
    crossval(three_folds, out)
    assert len(read_study(out / "trainings").trials) == 3


def test_folds_of_another_store_are_not_mixed_in(done, tmp_path):
    out, _ = done
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_store(other, scans=3, folds=3)
    error = crossval(other, out, code=1).stderr
    assert error.count("\n") == 1
    assert f"train.store={other}" in error or str(other) in error
    assert len(read_study(out / "trainings").trials) == 3


def test_a_fold_may_choose_its_own_checkpoint_and_the_label_says_so(three_folds, tmp_path):
    text = crossval(three_folds, tmp_path / "same", "selection=same", "folds=[1]").stdout
    assert "cross-validated, optimistic: each fold also chose its own checkpoint" in text
    (trial,) = read_study(tmp_path / "same" / "trainings").trials
    assert trial.params == {"fold": 1}


def test_a_failed_fold_is_reported_and_retried(three_folds, tmp_path):
    out, broken = tmp_path / "out", "retries.lost=0"
    words = ("folds=[2]", broken, "train.optim.lr=1e-2", "dispatcher.setup=['exit 86']")
    error = crossval(three_folds, out, *words, code=1).stderr
    assert "1 of 1 training has no result: fold2 failed: " in error
    crossval(three_folds, out, "folds=[2]", broken, "train.optim.lr=1e-2")
    assert [t.state.value for t in read_study(out / "trainings").trials] == ["failed", "complete"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folds=[7]"], "has no fold 7; it has [0, 1, 2]"),
        (["folds=[1,1]"], "folds=[1, 1] lists a fold twice"),
        (["train.fold=1"], "train.fold=1 cannot be set: crossval sets it for each training"),
        (["train.test_fold=1"], "train.test_fold=1 cannot be set"),
        (["train.run_dir=x"], "train.run_dir=x cannot be set"),
        (["out="], "out is not set; add out=FOLDER"),
        (["stop=jobs"], "is not a study, so it has no jobs to cancel"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(three_folds, tmp_path, words, message):
    code = 1 if words == ["stop=jobs"] else 2
    error = crossval(three_folds, tmp_path / "cv", *words, code=code).stderr
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "cv" / "trainings").exists()


def test_dry_run_prints_the_job_of_a_fold_and_leaves_no_study(three_folds, tmp_path):
    text = crossval(three_folds, tmp_path / "cv", "dry_run=true").stdout
    assert "nodule_det.train" in text
    assert " fold=1 test_fold=0 " in text
    # half of 12 patches in each of 2 epochs, around one of the 4 lesions of the third fold
    assert (
        "a training: 2 epochs, 12 steps, 24 patches, each of 4 lesions seen about 3 times" in text
    )
    assert "(measured in 20 steps on this machine)" in text
    assert not (tmp_path / "cv" / "trainings").exists()


def test_the_networks_of_all_folds_become_one_model(done, three_folds):
    out, text = done
    model = read_model(out / "model")
    record = (out / "model" / "model.json").read_text()
    assert str(three_folds) not in record
    assert str(out) not in record
    assert len(model.members) == 3
    assert model.settings["model.depth"] == "2"
    assert model.figures["pauc"] == json.loads((out / "froc.json").read_text())["pauc"]
    assert f"model    {out / 'model'}: 3 networks" in text


def test_a_damaged_network_or_result_is_trained_again_once_its_folder_is_deleted(
    done, three_folds, tmp_path
):
    out = tmp_path / "copy"
    shutil.copytree(done[0], out)
    before = (out / "model" / "model.json").read_bytes()
    run = out / "trainings" / "trials" / "0002"
    best = run / "best.pt"
    best.write_bytes(best.read_bytes()[:-9])
    error = crossval(three_folds, out, code=1).stderr.splitlines()[-1]
    assert "is a copy of " in error
    error = crossval(three_folds, out, "study_was=copied", code=1).stderr.splitlines()[-1]
    assert error.startswith(f"error: checkpoint {best} cannot be read (")
    assert f"Delete the folder {run} to train this network again" in error
    assert (out / "model" / "model.json").read_bytes() == before
    shutil.rmtree(run)
    crossval(three_folds, out)
    trials = read_study(out / "trainings").trials
    assert [t.params.get("test_fold") for t in trials] == [0, 1, 2, 1]
    assert len(read_model(out / "model").members) == 3


def test_each_network_records_that_it_has_not_seen_its_fold(done):
    out, _ = done
    folds = [ScanRecord.of([f"1.2.{k}", f"1.2.{k + 3}"], []).trained for k in range(3)]
    for trial in read_study(out / "trainings").trials:
        run = out / "trainings" / "trials" / f"{trial.number:04d}"
        scans = load_checkpoint(run / "best.pt").meta.scans
        chooser, tested = trial.params["fold"], trial.params["test_fold"]
        assert scans == ScanRecord(folds[3 - chooser - tested], folds[chooser])
    every = folds[0] | folds[1] | folds[2]
    assert read_model(out / "model").scans == ScanRecord(every, every)


def test_the_pooled_figures_are_called_cross_validated(done):
    out, text = done
    kind = "cross-validated: each fold evaluated once, its checkpoint chosen on another"
    assert json.loads((out / "froc.json").read_text())["kind"] == kind
    assert f"figures: {kind}\n" in text
