import pytest

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter
from nodule_det.hpo.training.disk import best_numbers, is_over, pack_trial, packable, unneeded

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
    names += " candidates.csv candidates.origin.json annotations.csv annotations_excluded.csv"
    names += " scans.csv froc.json training.png"
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


def left(run_dir):
    return sorted(p.relative_to(run_dir).as_posix() for p in run_dir.rglob("*") if p.is_file())


RESULTS = ["best.pt", "files.zip", "last.pt", "metrics.jsonl", "overrides.txt", "result.json"]


def test_a_packed_trial_has_at_most_ten_inodes(tmp_path):
    leave_files(tmp_path, attempts=3)
    (tmp_path / "attempt_10").mkdir()  # the last one, by number
    for name in ("job.sh", "job.log", "claim", "exit_code"):
        (tmp_path / "attempt_10" / name).write_text("0 2.5")
    (tmp_path / "last.pt").unlink()
    assert inodes(tmp_path) == 1 + 17 + 3 * 6 + 5
    assert pack_trial(tmp_path, ours=True) == 13 + 3 * 5 + 1
    assert left(tmp_path) == sorted(
        [
            *(f"attempt_10/{n}" for n in ("claim", "exit_code", "job.log")),
            *RESULTS[:2],
            *RESULTS[3:],
        ]
    )
    assert inodes(tmp_path) == 10
    assert pack_trial(tmp_path, ours=True) == 0


def test_only_the_files_of_its_jobs_are_packed_of_another_program(tmp_path):
    leave_files(tmp_path, attempts=1)
    before = left(tmp_path)
    assert pack_trial(tmp_path, ours=False) == 2
    packed = {f"attempt_1/{name}" for name in ("job.sh", "heartbeat")}
    assert left(tmp_path) == sorted({*before, "files.zip"} - packed)


def test_files_that_the_training_did_not_write_are_left_alone(tmp_path):
    leave_files(tmp_path)
    for name in ("report.html", "model.onnx", "notes.csv", "tensorboard/events", "attempt_x/claim"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    assert not [p for p in packable(tmp_path, ours=True) if p.read_text() == "mine"]
    pack_trial(tmp_path, ours=True)
    assert sum((tmp_path / name).read_bytes() == b"mine" for name in left(tmp_path)) == 5


def test_tables_of_the_test_fold_are_packed_too(tmp_path):
    leave_files(tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "froc.json").write_text("{}")
    pack_trial(tmp_path, ours=True)
    assert not (tmp_path / "test").exists()


def test_a_lost_job_that_may_still_run_keeps_its_folder(tmp_path):
    # Without the folder it could not write how it ended, and would not find that it was abandoned.
    leave_files(tmp_path, attempts=2)
    (tmp_path / "attempt_1" / "exit_code").unlink()
    (tmp_path / "attempt_1" / "abandoned").touch()
    pack_trial(tmp_path, ours=True)
    assert sorted(p.name for p in (tmp_path / "attempt_1").iterdir()) == ["abandoned", "claim"]
