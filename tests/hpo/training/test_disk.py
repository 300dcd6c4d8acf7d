import os
import zipfile

import pytest

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter
from nodule_det.hpo.training.disk import ARCHIVE, best_numbers, is_over, pack, packable, unneeded

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})


@pytest.fixture
def writer(tmp_path):
    """Three complete trials with values 0.5, 0.7 and 0.6, and the files of a real training."""
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 1.0, Header(id="cafe", space=SPACE))
    for number, value in ((1, 0.5), (2, 0.7), (3, 0.6)):
        writer.ask({"optim.lr": 1e-3}, "first")
        writer.write("intent", trial=number, attempt=1, name=f"nd-{number}")
        writer.write("finished", trial=number, state="complete", value=value)
        leave_files(writer.folder.trial(number))
    yield writer
    writer.close()


def leave_files(run_dir, attempts=1):
    names = "config.yaml command.txt environment.json metrics.jsonl train.log last.pt best.pt"
    names += " candidates.csv annotations.csv annotations_excluded.csv scans.csv froc.json"
    names += " result.json froc.png findings.png overrides.txt"
    for attempt in range(1, attempts + 1):
        job = run_dir / f"attempt_{attempt}"
        job.mkdir(parents=True)
        for name in ("job.sh", "job.log", "heartbeat"):
            (job / name).write_text(f"{name} {attempt}")
        (job / "claim").write_text("7.pbs node 1.5")
        (job / "exit_code").write_text("0 2.5")
    for name in names.split():
        (run_dir / name).write_text(f"content of {name}")


def inodes(folder):
    return 1 + sum(1 for _ in folder.rglob("*"))


def test_the_best_trials_have_the_largest_values(writer):
    assert best_numbers(writer.study, 2) == {2, 3}
    assert best_numbers(writer.study, 0) == set()


def test_the_weights_of_the_best_are_kept_but_no_last_checkpoint(writer):
    names = {
        t.number: [p.name for p in unneeded(t, writer.folder, {2})] for t in writer.study.trials
    }
    assert names == {1: ["last.pt", "best.pt"], 2: ["last.pt"], 3: ["last.pt", "best.pt"]}


def test_a_trial_is_over_once_its_last_job_has_ended(writer):
    trial = writer.study.trial(1)
    assert is_over(trial, writer.folder)
    (writer.folder.attempt(1, 1) / "exit_code").unlink()
    assert not is_over(trial, writer.folder)
    (writer.folder.attempt(1, 1) / "claim").write_text("closed here 1.5")
    assert is_over(trial, writer.folder)
    writer.ask({"optim.lr": 1e-3}, "first")
    assert not is_over(writer.study.trial(4), writer.folder)


def test_a_packed_trial_has_at_most_ten_inodes_and_loses_nothing(tmp_path):
    run_dir = tmp_path / "0001"
    leave_files(run_dir, attempts=3)
    for name in ("last.pt", "best.pt"):
        (run_dir / name).unlink()
    before = {p.relative_to(run_dir).as_posix(): p.read_bytes() for p in packable(run_dir)}
    assert inodes(run_dir) == 33
    assert pack(run_dir) == len(before) == 23
    assert inodes(run_dir) == 9
    with zipfile.ZipFile(run_dir / ARCHIVE) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == before
    assert (run_dir / "result.json").exists()
    assert (run_dir / "attempt_3" / "job.sh").exists()
    assert pack(run_dir) == 0


def test_a_file_newer_than_the_archive_is_kept(tmp_path):
    run_dir = tmp_path / "0001"
    leave_files(run_dir)
    pack(run_dir)
    (run_dir / "train.log").write_text("another, longer log than before")
    (run_dir / "scans.csv").write_text("content of scans.csv")  # left by a kill in between
    assert pack(run_dir) == 1
    assert (run_dir / "train.log").exists()
    assert not (run_dir / "scans.csv").exists()


def test_links_are_not_changed(tmp_path):
    run_dir, elsewhere = tmp_path / "0001", tmp_path / "precious"
    leave_files(run_dir)
    elsewhere.write_text("precious")
    os.symlink(elsewhere, run_dir / "link.csv")
    pack(run_dir)
    assert elsewhere.read_text() == "precious"
    assert (run_dir / "link.csv").is_symlink()
