import subprocess
import sys

from tests.hpo.command_line import hpo, tune, until


def test_the_same_command_continues_the_study(quick_training, tmp_path):
    path = tmp_path / "own"
    first = tune(path, quick_training, "workers=2", "trials=2")
    assert first.stdout.startswith(f"{path}: 2 complete")
    again = tune(path, quick_training, "workers=2", "trials=3")
    assert again.stdout.startswith(f"{path}: 3 complete")


def test_another_space_or_training_is_refused_with_the_difference(study, quick_training):
    run = tune(study, quick_training, "train.fold=3", code=1)
    assert run.stderr.startswith(
        f"error: study={study} was created with another train: was [], now ['fold=3']"
    )


def test_a_search_space_can_be_the_users_own_file(study, quick_training, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("parameters:\n  optim.lr: {kind: float, low: 1e-5, high: 1e-3, log: true}\n")
    mine = f"search_space={path}"
    run = tune(tmp_path / "own", quick_training, mine, "dry_run=true")
    assert " optim.lr=" in run.stdout
    assert "model.depth" not in run.stdout
    other = tune(study, quick_training, mine, code=1)
    assert (
        f"study={study} was created with another search_space: patches.size_vox: " in other.stderr
    )


def test_a_missing_search_space_leaves_no_folder(quick_training, tmp_path):
    run = tune(tmp_path / "own", quick_training, "search_space=nomra", code=2)
    assert run.stderr.count("\n") == 1
    assert "search_space=nomra" in run.stderr
    assert not (tmp_path / "own").exists()


def test_a_dry_run_prints_the_next_job_and_changes_nothing(study, quick_training, tmp_path):
    before = (study / "journal.jsonl").read_bytes()
    run = tune(study, quick_training, "dispatcher=pbs", "dry_run=true")
    assert "exec bash " in run.stdout
    assert "qsub -N nd-" in run.stdout
    assert (study / "journal.jsonl").read_bytes() == before
    new = tune(tmp_path / "new", quick_training, "dry_run=true")
    assert "# trial 1 (random)" in new.stdout
    assert not (tmp_path / "new").exists()


def test_a_dry_run_shows_waiting_trials_and_has_the_same_refusals_as_the_command(
    study, quick_training, tmp_path
):
    mine = tmp_path / "mine.yaml"
    mine.write_text("parameters:\n  optim.lr: {kind: float, low: 1e-5, high: 1e-3, log: true}\n")
    points = tmp_path / "points.yaml"
    points.write_text("- {optim.lr: 2e-4}\n")
    words = (tmp_path / "own", quick_training, f"search_space={mine}")
    tune(*words, "trials=1")
    hpo("nodule_det.hpo.add", f"study={tmp_path / 'own'}", f"points={points}")
    queued = tune(*words, "dry_run=true")
    assert queued.stdout.startswith("# trial 2 (user), ")
    assert " optim.lr=0.0002 " in queued.stdout
    other = tune(study, quick_training, "train.fold=3", "dry_run=true", code=1)
    assert "was created with another train" in other.stderr


def test_without_a_study_there_are_no_jobs_to_stop(quick_training, tmp_path):
    run = tune(tmp_path / "own", quick_training, "stop=jobs", code=1)
    assert (
        run.stderr
        == f"error: stop=jobs: {tmp_path}/own is not a study, so it has no jobs to cancel\n"
    )
    assert not (tmp_path / "own").exists()


def test_jobs_are_not_started_again_by_another_batch_system(quick_training, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICK_S", "60")
    path = tmp_path / "own"
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
    assert "1 job of this study, submitted by dispatcher.kind=local, may still run" in run.stderr
    assert (path / "journal.jsonl").read_bytes() == before
    assert "1 cancelled" in hpo("nodule_det.hpo", *words, "stop=jobs").stdout


def test_a_study_on_this_machine_may_have_any_printable_path(tmp_path, quick_training):
    path = tmp_path / "Jürgens Studien" / "a,b: 'c' \"d\" [1]=$x (肺) 100%"
    run = tune(f"'{str(path).replace(chr(39), chr(92) + chr(39))}'", quick_training, "trials=2")
    assert run.stdout.startswith(f"{path}: 2 complete, 0 failed")
    assert len(list(path.glob("trials/*/files.zip"))) == 2
    again = [sys.executable, "-m", "nodule_det.hpo.show", "study=."]
    shown = subprocess.run(again, cwd=path, capture_output=True, text=True, timeout=60)
    assert (shown.returncode, "complete" in shown.stdout) == (0, True), shown.stderr


def test_a_path_that_qsub_would_mangle_is_refused(tmp_path):
    above = tmp_path / "our, studies"
    above.mkdir()
    command = [sys.executable, "-m", "nodule_det.hpo", "study=s", "dispatcher=pbs"]
    run = subprocess.run(command, cwd=above, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: study={above}/s contains ',', which qsub mangles")
