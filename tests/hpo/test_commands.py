"""The commands as a user meets them: one small study, made, shown, added to and exported."""

import csv
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import Reason


def hpo(module, *words, code=0):
    command = [sys.executable, "-m", module, *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == code, run.stdout + run.stderr
    return run


def tune(study, quick_training, *words, code=0):
    command = f"command=[{','.join(quick_training)}]"
    fast = ["dispatcher.poll_s=0.05", "dispatcher.grace_s=0.5", "acquisition.strategy=random"]
    return hpo("nodule_det.hpo", f"study={study}", command, *fast, *words, code=code)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "s"
    quick = ["bash", str(Path(__file__).parents[1] / "bin/quick_training.sh")]
    run = tune(folder, quick, "workers=2", "trials=3")
    assert run.stdout.startswith(f"{folder}: 3 complete, 0 failed")
    assert "trial 1 complete" in run.stderr
    return folder


def test_the_same_command_goes_on(study, quick_training):
    run = tune(study, quick_training, "workers=2", "trials=4")
    assert run.stdout.startswith(f"{study}: 4 complete")


def test_another_space_or_training_is_refused_with_the_difference(study, quick_training):
    run = tune(study, quick_training, "train.fold=3", code=1)
    assert run.stderr.startswith(
        f"error: study={study} was made with another train: [] then, ['fold=3'] now"
    )


def test_a_space_of_ones_own_is_given_by_its_path(study, quick_training, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("parameters:\n  optim.lr: {kind: float, low: 1e-5, high: 1e-3, log: true}\n")
    mine = f"search_space={path}"
    run = tune(tmp_path / "s", quick_training, mine, "dry_run=true")
    assert " optim.lr=" in run.stdout
    assert "model.depth" not in run.stdout
    other = tune(study, quick_training, mine, code=1)
    assert f"study={study} was made with another search_space: patches.size_vox: " in other.stderr


def test_a_space_that_is_not_there_leaves_no_folder(quick_training, tmp_path):
    run = tune(tmp_path / "s", quick_training, "search_space=nomra", code=2)
    assert run.stderr.count("\n") == 1
    assert "search_space=nomra" in run.stderr
    assert not (tmp_path / "s").exists()


def test_a_dry_run_prints_the_next_job_and_changes_nothing(study, quick_training):
    before = (study / "journal.jsonl").read_bytes()
    run = tune(study, quick_training, "dispatcher=pbs", "dry_run=true")
    assert "exec bash " in run.stdout
    assert "qsub -N nd-" in run.stdout
    assert (study / "journal.jsonl").read_bytes() == before
    new = tune(study.parent / "new", quick_training, "dry_run=true")
    assert "# trial 1 (random)" in new.stdout
    assert not (study.parent / "new").exists()


def test_a_dry_run_shows_what_waits_and_refuses_what_the_command_refuses(
    study, quick_training, tmp_path
):
    mine = tmp_path / "mine.yaml"
    mine.write_text("parameters:\n  optim.lr: {kind: float, low: 1e-5, high: 1e-3, log: true}\n")
    points = tmp_path / "points.yaml"
    points.write_text("- {optim.lr: 2e-4}\n")
    words = (tmp_path / "s", quick_training, f"search_space={mine}")
    tune(*words, "trials=1")
    hpo("nodule_det.hpo.add", f"study={tmp_path / 's'}", f"points={points}")
    queued = tune(*words, "dry_run=true")
    assert queued.stdout.startswith("# trial 2 (user), ")
    assert " optim.lr=0.0002 " in queued.stdout
    other = tune(study, quick_training, "train.fold=3", "dry_run=true", code=1)
    assert "was made with another train" in other.stderr


def test_there_are_no_jobs_to_stop_where_there_is_no_study(quick_training, tmp_path):
    run = tune(tmp_path / "s", quick_training, "stop=jobs", code=1)
    assert (
        run.stderr
        == f"error: stop=jobs: {tmp_path}/s holds no study, so it has no jobs to cancel\n"
    )
    assert not (tmp_path / "s").exists()


def test_jobs_are_not_started_again_by_another_batch_system(quick_training, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICK_S", "60")
    path = tmp_path / "s"
    words = [
        f"study={path}",
        f"command=[{','.join(quick_training)}]",
        "acquisition.strategy=random",
    ]
    drive = [sys.executable, "-m", "nodule_det.hpo", *words, "trials=1", "dispatcher.poll_s=0.1"]
    first = subprocess.Popen(drive, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(path.glob("trials/*/starts"))) == 1)
    finally:
        first.kill()
        first.wait()
    before = (path / "journal.jsonl").read_bytes()
    run = hpo("nodule_det.hpo", *words, "dispatcher=pbs", "stop=jobs", code=1)
    assert "1 jobs of this study were given to local and may still run" in run.stderr
    assert (path / "journal.jsonl").read_bytes() == before
    assert "1 cancelled" in hpo("nodule_det.hpo", *words, "stop=jobs").stdout


def test_status_needs_no_torch_and_shows_every_trial(study):
    code = (
        "import sys; sys.argv = ['status', sys.argv[1]]\n"
        "from nodule_det.hpo.status import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'monai', 'botorch'} & set(sys.modules)\n"
    )
    words = [sys.executable, "-c", code, f"study={study}"]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    header = run.stdout.splitlines()[0].split()
    assert header[:4] == ["trial", "state", "value", "node"]
    assert header[-3:] == ["copies", "shift_vox", "rotate"]
    assert "no driver" in run.stdout


def test_show_prints_the_command_of_a_trial(study):
    run = hpo("nodule_det.hpo.show", f"study={study}", "trial=2")
    assert run.stdout.splitlines()[0] == "trial: 2"
    assert f"run_dir={study}/trials/0002" in run.stdout.splitlines()[-1]
    best = hpo("nodule_det.hpo.show", f"study={study}")
    assert "state: complete" in best.stdout
    missing = hpo("nodule_det.hpo.show", f"study={study}", "trial=99", code=1)
    assert missing.stderr.startswith("error: trial=99 is not in this study, which has 1 to")


def test_show_finds_the_job_of_a_trial_whose_first_one_the_journal_has_lost(study, tmp_path):
    copy = tmp_path / "s"
    shutil.copytree(study, copy)
    (copy / "trials/0002/attempt_1").rename(copy / "trials/0002/attempt_2")
    text = (copy / "journal.jsonl").read_text()
    lost = "\n".join(
        line.replace('"attempt": 1', '"attempt": 2') if '"trial": 2,' in line else line
        for line in text.split("\n")
    )
    (copy / "journal.jsonl").write_text(lost)
    shown = hpo("nodule_det.hpo.show", f"study={copy}", "trial=2").stdout
    assert "run_dir=" in shown.splitlines()[-1]


def test_points_and_results_are_added_through_the_queue(study, quick_training, tmp_path):
    new = tmp_path / "new"
    tune(new, quick_training, "trials=1")
    points = tmp_path / "points.yaml"
    usual = (
        "{patches.size_vox: 32, model.depth: 3, model.filters: 16, model.kernel_size: 3, "
        "model.residual: true, optim.batch_size: 8, optim.lr: 3e-4, optim.beta1: 0.95, "
        "augment.copies: 1, augment.shift_vox: 8, augment.rotate: true}"
    )
    points.write_text(f"- {usual}\n")
    added = hpo("nodule_det.hpo.add", f"study={new}", f"points={points}")
    assert added.stdout == f"1 points are queued for {new}\n"
    taken = hpo("nodule_det.hpo.add", f"study={new}", f"results={study}")
    assert "results are queued" in taken.stdout
    tune(new, quick_training, "trials=2")
    rows = read_csv(new)
    n_imported = [r["source"] for r in rows].count("imported")
    assert n_imported >= 3
    again = hpo("nodule_det.hpo.add", f"study={new}", f"results={study}")
    assert again.stdout.startswith(f"0 results are queued for {new}; {n_imported} it has already")
    back = hpo("nodule_det.hpo.add", f"study={study}", f"results={new}")
    assert f"; {n_imported} it has already" in back.stdout
    left = list((study / "queue").glob("*.json"))
    assert len(left) == 2  # what the new study ran itself
    for entry in left:
        entry.unlink()
    itself = hpo("nodule_det.hpo.add", f"study={new}", f"results={new}", code=2)
    assert "is this study itself" in itself.stderr
    shown = hpo("nodule_det.hpo.show", f"study={new}", "trial=3").stdout.splitlines()
    assert shown[-2] == "this study has not run it (imported); its command would be"
    assert shown[-1].endswith(f"run_dir={new}/trials/0003")
    assert [r["optim.beta1"] for r in rows if r["source"] == "user"] == ["0.95"]
    points.write_text(f"- {usual.replace('optim.lr: 3e-4', 'optim.lr: 3')}\n")
    wrong = hpo("nodule_det.hpo.add", f"study={new}", f"points={points}", code=2)
    assert "point 1: optim.lr=3 lies outside [1e-08, 0.01]" in wrong.stderr


def test_results_of_other_trainings_are_taken_only_if_asked_for(study, quick_training, tmp_path):
    other = tmp_path / "other"
    tune(other, quick_training, "trials=1", "train.limits.epochs=7")
    words = ("nodule_det.hpo.add", f"study={other}", f"results={study}")
    refused = hpo(*words, code=2)
    assert (
        "is of trainings with another train: [] there, ['limits.epochs=7'] here" in refused.stderr
    )
    assert not list(other.glob("queue/*.json"))
    hpo(*words, "other_trainings=true")
    assert list(other.glob("queue/result_*.json"))


def test_a_trial_is_cancelled_with_and_without_a_driver(quick_training, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICK_S", "60")
    path = tmp_path / "s"
    settings = ["dispatcher.poll_s=0.1", "dispatcher.grace_s=0.5", "acquisition.strategy=random"]
    words = [f"study={path}", f"command=[{','.join(quick_training)}]", "workers=2", "trials=2"]
    drive = [sys.executable, "-m", "nodule_det.hpo", *words, *settings]
    first = subprocess.Popen(drive, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(path.glob("trials/*/starts"))) == 2)
        live = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=1")
        assert live.stdout.startswith("trial 1 will be cancelled by the driver (")
        until(lambda: read_study(path).trial(1).reason is Reason.USER)
    finally:
        first.kill()
        first.wait()
    again = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=1", code=1)
    assert "is cancelled already; only a trial that is not over" in again.stderr
    assert "which is gone" in hpo("nodule_det.hpo.status", f"study={path}").stdout
    alone = hpo("nodule_det.hpo.cancel", f"study={path}", "trial=2")
    pid = int(read_study(path).trial(2).attempt.job.split("-")[0])
    assert alone.stdout.endswith(
        "once it is started again; to end its job before: "
        f"on {socket.gethostname()}: kill -- -{pid}\n"
    )
    lock = path / "driver.lock"
    lock.write_text(lock.read_text().replace(socket.gethostname(), "login2"))
    os.utime(lock, (lock.stat().st_mtime - 1000,) * 2)
    assert "silent for 16:4" in hpo("nodule_det.hpo.status", f"study={path}").stdout
    assert "once it is" in hpo("nodule_det.hpo.cancel", f"study={path}", "trial=2").stdout
    run = hpo("nodule_det.hpo", *words, *settings, "stop=jobs")
    assert "2 cancelled" in run.stdout or "3 cancelled" in run.stdout
    assert read_study(path).trial(2).reason is Reason.USER


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened in a minute"
        time.sleep(0.1)


def read_csv(study):
    hpo("nodule_det.hpo.export", f"study={study}")
    with open(study / "trials.csv", newline="") as f:
        return list(csv.DictReader(f))


def test_the_csv_holds_every_trial(study):
    rows = read_csv(study)
    assert [r["trial"] for r in rows] == [str(n) for n in range(1, len(rows) + 1)]
    assert all(float(r["value"]) == float(r["optim.beta1"]) for r in rows)


def test_the_optuna_view_tells_the_same_values(study, tmp_path):
    optuna = pytest.importorskip("optuna")
    path = tmp_path / "view.log"
    hpo("nodule_det.hpo.export", f"study={study}", f"optuna={path}")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    view = optuna.load_study(study_name=None, storage=storage)
    rows = read_csv(study)
    assert [t.value for t in view.trials] == [float(r["value"]) for r in rows]
    assert view.best_value == max(float(r["value"]) for r in rows)
    assert hpo(
        "nodule_det.hpo.export", f"study={study}", f"optuna={path}", code=2
    ).stderr.startswith(f"error: optuna={path} is there already")


def test_a_folder_that_is_no_study_is_named(tmp_path):
    run = hpo("nodule_det.hpo.status", f"study={tmp_path}", code=1)
    assert "journal.jsonl does not exist: this folder does not hold a study" in run.stderr


def test_a_path_that_qsub_would_mangle_is_refused():
    run = hpo("nodule_det.hpo", "study='a b'", code=2)
    assert run.stderr.startswith("error: study=a b holds a blank or a sign that qsub mangles")


def test_a_blank_in_a_folder_above_the_study_is_refused_as_well(tmp_path):
    above = tmp_path / "my studies"
    above.mkdir()
    command = [sys.executable, "-m", "nodule_det.hpo", "study=s", "dispatcher=pbs"]
    run = subprocess.run(command, cwd=above, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: study={above}/s holds a blank")


def test_every_command_knows_the_home_folder(study, monkeypatch):
    monkeypatch.setenv("HOME", str(study.parent))
    assert "complete" in hpo("nodule_det.hpo.status", f'study="~/{study.name}"').stdout
