import json

import pytest

from nodule_det.errors import StudyError
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.objective import Constraint, Objective
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter, read_study
from nodule_det.hpo.study.trial import Reason, TrialState

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})


@pytest.fixture
def writer(tmp_path):
    header = Header(id="cafe", space=SPACE, train=("fold=1",), command=("train",), created_s=100.0)
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 200.0, header)
    yield writer
    writer.close()


def run_attempt(writer, trial, attempt=1, job="7.pbs"):
    name = writer.study.header.job_name(trial, attempt)
    writer.write("intent", trial=trial, attempt=attempt, name=name)
    writer.write("submitted", trial=trial, attempt=attempt, job=job)
    writer.write("started", trial=trial, attempt=attempt, started_s=210.0)


def test_a_trial_goes_from_asked_to_complete(writer):
    number = writer.ask({"optim.lr": 1e-3}, "first")
    assert writer.study.trial(1).pending
    run_attempt(writer, number)
    assert writer.study.trial(1).attempt.job == "7.pbs"
    writer.write("observed", trial=1, epoch=5, value=0.3, se=0.02)
    writer.write("finished", trial=1, state="complete", value=0.5, value_se=0.01, ended_s=270.0)
    trial = writer.study.trial(1)
    assert (trial.state, trial.value, trial.value_se) == (TrialState.COMPLETE, 0.5, 0.01)
    assert trial.seconds == 60.0
    assert trial.curve[0].epoch == 5
    assert writer.study.best() is trial


def test_an_attempt_that_stopped_leaves_its_trial_pending(writer):
    number = writer.ask({"optim.lr": 1e-3}, "first")
    run_attempt(writer, number)
    writer.write("ended", trial=1, attempt=1, reason="stopped", ended_s=310.0)
    trial = writer.study.trial(1)
    assert trial.pending
    assert trial.attempt is None
    assert trial.attempts[0].reason is Reason.STOPPED
    run_attempt(writer, number, attempt=2)
    assert writer.study.node_seconds(now_s=220.0) == 100.0 + 10.0


def test_a_reader_sees_the_same_study_as_the_writer(writer, tmp_path):
    writer.ask({"optim.lr": 1e-3}, "first")
    run_attempt(writer, 1)
    writer.start_session(4, "local")
    study = read_study(tmp_path)
    assert study.trials == writer.study.trials
    assert study.sessions == writer.study.sessions
    assert study.header == writer.study.header


def test_a_result_is_never_counted_twice(writer):
    writer.ask({"optim.lr": 1e-3}, "first")
    writer.write("finished", trial=1, state="complete", value=0.5)
    writer.write("finished", trial=1, state="complete", value=0.9)
    assert writer.study.trial(1).value == 0.5
    assert "trial 1 is already complete" in writer.study.problems[0]


def test_the_number_of_a_trial_whose_record_was_lost_is_not_used_again(writer, tmp_path):
    writer.ask({"optim.lr": 1e-3}, "first")
    writer.ask({"optim.lr": 1e-4}, "first")
    run_attempt(writer, 2)
    path = tmp_path / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "garbage", *lines[3:]]) + "\n")
    study = read_study(tmp_path)
    assert [t.number for t in study.trials] == [1]
    assert study.next_number == 3
    assert "line 3 cannot be read" in study.problems[0]
    assert "trial 2 has no record of kind asked" in study.problems[1]


def test_a_journal_without_its_first_line_is_refused(writer, tmp_path):
    writer.ask({"optim.lr": 1e-3}, "first")
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().split("\n", 1)[1])
    with pytest.raises(StudyError, match="does not begin with a record of kind study"):
        read_study(tmp_path)


def test_a_missing_trial_is_reported(writer):
    writer.ask({"optim.lr": 1e-3}, "first")
    with pytest.raises(StudyError, match="trial=9 is not in this study, which has 1 to 1"):
        writer.study.trial(9)


def test_constraints_are_kept_with_the_objective(tmp_path):
    constraints = (Constraint("seconds", high=30.0), Constraint("n.hits", low=1.0))
    header = Header(id="cafe", space=SPACE, objective=Objective("f1", constraints=constraints))
    folder = tmp_path / "limited"
    folder.mkdir()
    StudyWriter(StudyFolder(folder), lambda: 0.0, header).close()
    assert read_study(folder).objective == header.objective


@pytest.mark.parametrize("odd", [7, ["a"], [{"name": 1}], [{"name": "a", "max": "x"}]])
def test_damaged_constraints_are_refused(tmp_path, odd):
    StudyWriter(StudyFolder(tmp_path), lambda: 0.0, Header(id="cafe", space=SPACE)).close()
    journal = StudyFolder(tmp_path).journal
    record = json.loads(journal.read_text()) | {"constraints": odd}
    journal.write_text(json.dumps(record) + "\n")
    with pytest.raises(StudyError, match=r"the first line of .* is damaged"):
        read_study(tmp_path)


def test_names_of_jobs_are_unique_and_fit_the_fifteen_characters_of_older_batch_systems():
    header = Header(id="f96f59", space=SPACE)
    assert header.job_name(999, 1) == "nd-f96f59-999-1"
    assert header.job_name(1000, 1) == "ndf96f59-3e8-1"
    trials = [*range(1, 1100), *range(4000, 4096)]
    names = [header.job_name(trial, k) for trial in trials for k in (1, 2, 9, 10, 11, 100, 255)]
    assert len(set(names)) == len(names)
    names += [header.job_name(trial, 15) for trial in (4096, 65_535)]
    assert max(map(len, names)) == 15
