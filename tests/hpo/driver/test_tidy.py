"""Checkpoints during a study are kept while they may be needed, then removed."""

from nodule_det.config.hpo import KeepConfig
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.study.trial import TrialState
from nodule_det.runs import RunResult, RunStatus
from tests.hpo.virtual_lab import HOUR, complete


def with_checkpoints(made):
    """Let every training of a lab leave both checkpoints when it starts."""

    def train(overrides, attempt):
        run_dir = made.folder.trial(len(made.writer.study.trials))
        for name in ("last.pt", "best.pt"):
            (run_dir / name).write_bytes(b"weights")
        return complete(overrides, attempt)

    return train


def left(made, name):
    return [int(p.parent.name) for p in sorted(made.folder.trials.glob(f"*/{name}"))]


def test_the_best_trials_keep_their_weights_and_no_finished_trial_keeps_its_last_checkpoint(lab):
    made = lab(trials=6, workers=1, keep=KeepConfig(best=2))
    made.batch._training = with_checkpoints(made)
    study = made.run()
    ranked = sorted(study.trials, key=lambda t: -t.value)
    assert left(made, "best.pt") == sorted(t.number for t in ranked[:2])
    assert left(made, "last.pt") == []
    assert left(made, "files.zip") == [1, 2, 3, 4, 5, 6]
    assert max(len(list(p.rglob("*"))) + 1 for p in made.folder.trials.iterdir()) <= 10


def test_a_trial_that_may_resume_keeps_its_checkpoint(lab):
    stopped = RunResult(status=RunStatus.STOPPED, reason="wall_clock", step=1)

    def train(overrides, attempt):
        (made.folder.trial(1) / "last.pt").write_bytes(b"weights")
        return FakeRun(seconds=HOUR, result=stopped, code=85)

    made = lab(train, trials=1, workers=1)
    driver = made.start()
    driver.try_step()
    made.clock.sleep(HOUR)
    driver.try_step()
    assert made.study.trial(1).pending
    assert left(made, "last.pt") == [1]


def test_files_are_not_packed_without_the_setting(lab):
    made = lab(trials=2, workers=1, keep=KeepConfig(pack=False))
    made.run()
    assert left(made, "files.zip") == []
    assert len(list(made.folder.trials.glob("*/attempt_1/job.sh"))) == 2


def test_an_archive_that_cannot_be_written_is_reported_and_the_study_continues(lab):
    made = lab(trials=3, workers=1)
    made.start().try_step()
    (made.folder.trial(1) / "files.zip").mkdir()
    study = made.run()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 3
    assert sum("trials/0001 cannot be packed: " in line for line in made.said) == 1
    assert left(made, "files.zip") == [1, 2, 3]


def test_a_job_that_may_still_run_keeps_its_files(lab):
    made = lab(trials=1, workers=1, keep=KeepConfig(best=0))
    made.batch._training = with_checkpoints(made)
    driver = made.start()
    driver.try_step()
    made.writer.write("cancel", trial=1, reason="user")
    made.writer.write("finished", trial=1, state=TrialState.CANCELLED, reason="user")
    driver.try_step()
    assert (made.folder.attempt(1, 1) / "claim").exists()
    assert not (made.folder.attempt(1, 1) / "exit_code").exists()
    assert 1 in left(made, "last.pt")
