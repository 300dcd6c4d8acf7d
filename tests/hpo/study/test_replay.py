import json
import math

import pytest

from nodule_det.config.hpo import Direction
from nodule_det.errors import StudyError
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.objective import PAUC, Objective
from nodule_det.hpo.study.replay import Fields
from nodule_det.hpo.study.study import Header, Study, StudyFolder, StudyWriter, read_study
from nodule_det.hpo.study.trial import Reason, TrialState

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})
STORY = [
    {"kind": "session", "t": 10, "host": "login", "pid": 7, "workers": 2, "dispatcher": "pbs"},
    {"kind": "asked", "t": 11, "trial": 1, "params": {"optim.lr": 1e-3}, "source": "first"},
    {"kind": "intent", "t": 12, "trial": 1, "attempt": 1, "name": "nd-cafe-1-1"},
    {"kind": "submitted", "t": 13, "trial": 1, "attempt": 1, "job": "7.pbs"},
    {"kind": "started", "t": 14, "trial": 1, "attempt": 1, "started_s": 14},
    {"kind": "observed", "t": 15, "trial": 1, "epoch": 5, "value": 0.25, "se": 0.125},
    {"kind": "finished", "t": 16, "trial": 1, "state": "complete", "value": 0.5, "value_se": 0.1,
     "influence": {"a1f": -0.06, "c07": 0.08}},
]  # fmt: skip
ODD = [
    *(None, True, "", "x", [], {}, [1], {"a": 1}, -1, 1.5, 10**400, 1e101, math.nan, math.inf),
    *("\x1b[31m", "\ud800", "x" * 100_000, "-rf", "../../etc", "a b"),
]


def told(records, objective=PAUC):
    study = Study(Header(id="cafe", space=SPACE, objective=objective))
    for record in records:
        study.apply(record)
    return study


def test_a_complete_journal_is_replayed_without_problems():
    study = told(STORY)
    assert study.problems == []
    assert study.trial(1).state is TrialState.COMPLETE
    assert study.trial(1).seconds == 2.0
    assert study.trial(1).influence == {"a1f": -0.06, "c07": 0.08}


def test_a_trial_of_an_older_version_has_no_influence():
    older = {key: value for key, value in STORY[6].items() if key != "influence"}
    study = told([*STORY[:6], older])
    assert study.problems == []
    assert (study.trial(1).value_se, study.trial(1).influence) == (0.1, None)


def test_an_odd_value_in_any_field_only_loses_its_record():
    for at, record in enumerate(STORY):
        for key in record:
            for odd in ODD:
                study = told([*STORY[:at], record | {key: odd}, *STORY[at + 1 :]])
                assert all(p.isprintable() for p in study.problems)
                for trial in study.trials:
                    assert trial.value is None or 0 <= trial.value <= 1
                    assert all(0 <= o.value <= 1 for o in trial.curve)
                    assert trial.params == {"optim.lr": 1e-3}
                    json.dumps(trial.message, allow_nan=False)


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (1, {"trial": 10**7}, "trial=10000000 must lie in \\[1, 1e\\+06\\]"),
        (1, {"params": {"optim.lr": 5}}, "optim.lr=5 is outside"),
        (1, {"params": []}, "params must map names to values"),
        (1, {"origin": "../a.json"}, "origin=../a.json has characters that are not allowed"),
        (3, {"job": "-Wforce"}, "job=-Wforce has characters that are not allowed"),
        (5, {"value": 1.5}, "value=1.5 must lie in \\[0, 1\\]"),
        (5, {"epoch": 1.5}, "epoch=1.5 must be a whole number"),
        (6, {"value": 2}, "value=2 must lie in \\[0, 1\\]"),
        (6, {"value": math.nan}, "value=nan must lie in"),
        (6, {"value": "0.5"}, "value=0.5 must be a number"),
        (6, {"value_se": -0.1}, "value_se=-0.1 must lie in"),
        (6, {"influence": {"a1f": 2}}, "influence must map up to 4096 names of cases to numbers"),
        (6, {"influence": {"a b": 0.1}}, "influence must map up to 4096 names of cases"),
        (6, {"influence": {str(i): 0.1 for i in range(4097)}}, "influence must map up to 4096"),
        (6, {"state": "pending"}, "state=pending is not a final state"),
        (6, {"state": "done"}, "state=done must be one of pending, complete"),
        (6, {"kind": "finisht"}, "kind=finisht is unknown"),
    ],
)
def test_an_impossible_record_is_ignored_and_reported(at, change, message):
    study = told([*STORY[:at], STORY[at] | change])
    assert len(study.problems) == 1
    with pytest.raises(StudyError, match=message):
        raise StudyError(study.problems[0])


def test_a_planted_override_never_becomes_a_trial(tmp_path):
    """Hydra would have run any function of any library in the user's job."""
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 1.0, Header(id="cafe", space=SPACE))
    writer.close()
    evil = {"optim.lr": 1e-3, "+hydra.callbacks.x._target_": "os.mkdir"}
    with open(tmp_path / "journal.jsonl", "a") as f:
        f.write(json.dumps(STORY[1] | {"params": evil}) + "\n")
    study = read_study(tmp_path)
    assert study.trials == ()
    assert "+hydra.callbacks.x._target_ is not in the search space" in study.problems[0]


def test_values_of_another_objective_may_be_of_any_size_and_sign():
    loss = Objective("rmse", Direction.minimize)
    study = told([*STORY[:-1], STORY[-1] | {"value": 1234.0, "value_se": 50}], loss)
    assert study.problems == []
    assert study.trial(1).value == -1234.0
    assert study.trial(1).curve[0].value == -0.25


def test_untrusted_text_is_made_safe_for_terminals():
    failed = {"state": "failed", "reason": "error", "message": "bad\x1b[2J\nthing"}
    study = told([*STORY[:-1], {"kind": "finished", "t": 16, "trial": 1, **failed}])
    assert study.trial(1).message == "bad?[2J thing"
    assert study.trial(1).reason is Reason.ERROR


def test_a_missing_field_is_named():
    with pytest.raises(StudyError, match="value=None must be a number"):
        Fields({}, PAUC).score()


def test_an_infeasible_trial_is_complete_without_a_value():
    finished = STORY[-1] | {"reason": "infeasible", "message": "seconds=41 is above 30"}
    study = told([*STORY[:-1], finished])
    assert study.problems == []
    trial = study.trial(1)
    assert (trial.state, trial.value, trial.value_se) == (TrialState.COMPLETE, None, None)
    assert (trial.reason, trial.message) == (Reason.INFEASIBLE, "seconds=41 is above 30")
    assert study.best() is None
