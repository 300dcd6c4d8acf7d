"""A journal that has lost more than a truncated line: trials are recovered from their folders."""

import pytest

from nodule_det.errors import ExitCode
from nodule_det.hpo.driver.recovery import recover
from nodule_det.hpo.simulate.dispatcher import FakeRun
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.trial import TrialState
from nodule_det.hpo.training.command import as_override, read_params
from nodule_det.runs import RunResult, RunStatus
from tests.hpo.virtual_lab import HOUR, complete


def by_history(space, trials, config, rng):
    """Choose another point wherever the history is another."""
    done = sum(not t.pending for t in trials)
    return space.from_unit([(0.05 + 0.37 * len(trials) + 0.11 * done) % 1])


def two_sessions(overrides, attempt):
    if attempt == 2:
        return complete(overrides, attempt)
    result = RunResult(status=RunStatus.STOPPED, reason="wall_clock")
    return FakeRun(seconds=HOUR, result=result, code=ExitCode.STOPPED)


@pytest.fixture(params=[complete, two_sessions])
def ran(request, lab):
    """A study of four trials, its journal, and a way to go on from another journal."""
    made = lab(request.param, trials=4, workers=2)
    made.propose = by_history
    made.run()

    def go_on(journal):
        made.folder.journal.write_bytes(journal)
        made.start()
        recover(made.writer)
        assert made.driver.run()
        return made.study

    return made, made.folder.journal.read_bytes(), go_on


def test_a_journal_truncated_anywhere_neither_loses_nor_confuses_results(ran):
    made, whole, go_on = ran
    first = whole.index(b"\n") + 1  # without it there is no study
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in sorted({*ends, *range(first, len(whole), 997)}):
        study = go_on(whole[:cut])
        assert [t.number for t in study.trials] == [1, 2, 3, 4]
        assert {t.state for t in study.trials} == {TrialState.COMPLETE}
        assert all(t.value == pytest.approx(100 * t.params["optim.lr"]) for t in study.trials)
        assert set(made.starts()) == {1}


def test_recovered_trials_are_reported(ran):
    made, whole, go_on = ran
    go_on(whole[: whole.index(b'{"kind": "asked", "t": ')])
    assert len(made.writer.study.problems) == 4
    folder = made.folder.trial(3)
    assert made.writer.study.problems[2] == (
        f"the journal has lost trial 3, whose folder is {folder}; it was recovered from there"
    )


def test_the_number_of_an_unreadable_folder_is_not_used_again(ran):
    made, whole, go_on = ran
    (made.folder.trial(4) / "overrides.txt").write_text("optim.lr=7\n")
    study = go_on(whole[: whole.index(b'"asked", "t": ')].rpartition(b"\n")[0])
    assert [t.number for t in study.trials] == [1, 2, 3, 5]
    assert "it cannot be recovered: optim.lr=7 is outside" in made.writer.study.problems[-1]


def test_every_kind_of_value_is_read_back_from_its_override(tmp_path):
    space = parse_space(
        {
            "parameters": {
                "rate": {"kind": "float", "low": 1e-8, "high": 1.0, "log": True},
                "n": {"kind": "int", "low": 1, "high": 9, "step": 2},
                "flag": {"kind": "bool"},
                "word": {"kind": "categorical", "values": ["a b", "it's", "plain", 3]},
                "depth": {"kind": "fixed", "value": 4},
                "bound": {"kind": "int", "low": 0, "high": 8, "at_most": {"of": "n", "times": 0.5}},
            }
        }
    )
    for word in ("a b", "it's", "plain", 3):
        params = {"rate": 1.5e-05, "n": 7, "flag": True, "word": word, "depth": 4, "bound": 3}
        lines = ["rate=0.5", *(as_override(k, v) for k, v in params.items()), "run_dir=/s"]
        (tmp_path / "overrides.txt").write_text("\n".join(lines) + "\n")
        assert read_params(tmp_path, space) == params


def test_a_complete_journal_is_not_changed(ran):
    made, whole, go_on = ran
    assert go_on(whole).trials
    assert made.folder.journal.read_bytes() == whole
