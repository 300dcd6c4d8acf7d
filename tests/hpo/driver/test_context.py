"""The shared context of the driver: waiting trials, recorded validations, unusable files."""

import errno
import json

import pytest

from nodule_det.hpo.study.trial import Reason, TrialState

TRIALS = 3


@pytest.fixture
def made(lab):
    """Return a study of three trials that no job was started for."""
    made = lab(trials=TRIALS)
    made.context = made.start()._context
    for _ in range(TRIALS):
        made.writer.ask({"optim.lr": 0.005}, "random")
    return made


def numbers(trials):
    return [t.number for t in trials]


def records(made, kind):
    rows = map(json.loads, made.folder.journal.read_text().splitlines())
    return [row for row in rows if row["kind"] == kind]


def test_paused_cancelled_and_running_trials_do_not_wait_for_a_worker(made):
    context = made.context
    assert numbers(context.waiting()) == [1, 2, 3]
    made.writer.write("intent", trial=1, attempt=1, name="nd-cafe-1-1")
    made.writer.write("cancel", trial=2, reason=Reason.USER)
    context.notes.paused_until[3] = 100.0
    assert context.waiting() == []
    assert [(t.number, a.name) for t, a in context.open_attempts()] == [(1, "nd-cafe-1-1")]
    made.clock.sleep(100.0)
    assert numbers(context.waiting()) == [3]


def test_each_validation_of_a_training_is_recorded_once(made):
    run_dir = made.context.run_dir(made.study.trial(2))
    run_dir.mkdir(parents=True)
    rows = [
        {"kind": "validation", "epoch": e, "pauc": e / 20, "pauc_se": 0.01} for e in (5, 10, 15)
    ]
    for known in (2, 2, 3):
        lines = [json.dumps(row) + "\n" for row in rows[:known]]
        (run_dir / "metrics.jsonl").write_text("".join(lines))
        made.context.observe(made.context.study.trial(2))
    assert [r["epoch"] for r in records(made, "observed")] == [5, 10, 15]
    assert [o.value for o in made.study.trial(2).curve] == [0.25, 0.5, 0.75]


def test_a_trial_whose_folder_cannot_be_created_fails_and_the_others_run(made):
    folder = made.folder.trial(2)
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file in the place of a folder")
    study = made.run()
    assert [t.state for t in study.trials[:TRIALS]] == [
        TrialState.COMPLETE, TrialState.FAILED, TrialState.COMPLETE,
    ]  # fmt: skip
    failed = study.trial(2)
    assert failed.reason is Reason.ERROR
    assert str(folder) in failed.message
    assert failed.message.startswith("the files of this trial cannot be used: ")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ESTALE, errno.EMFILE])
def test_temporary_file_errors_do_not_fail_the_trial(made, code):
    context = made.context
    with pytest.raises(OSError, match="for a moment"), context.sparing_others(made.study.trial(1)):
        raise OSError(code, "for a moment")
    assert made.study.trial(1).pending
    assert context.notes.failures == 0


def test_bad_files_do_not_fail_a_finished_trial(made):
    context, trial = made.context, made.study.trial(1)
    context.finish(trial, TrialState.CANCELLED, Reason.USER)
    with pytest.raises(PermissionError), context.sparing_others(trial):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert made.study.trial(1).state is TrialState.CANCELLED
    assert len(records(made, "finished")) == 1


def test_a_message_reported_once_is_repeated_by_the_next_session(made):
    made.said.clear()
    for _ in range(2):
        made.context.say_once("the queue is full")
    assert made.said == ["the queue is full"]
    made.start()._context.say_once("the queue is full")
    assert made.said == ["the queue is full"] * 2
