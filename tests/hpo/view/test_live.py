import io
from dataclasses import replace

import pytest

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter
from nodule_det.hpo.view.live import PLAIN_EVERY_S, Display
from nodule_det.hpo.view.summary import one_line, summarise, trial_row, value_text

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def study(tmp_path):
    """Two complete trials of an hour, one failed, one running since an hour, one queued."""
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 0.0, Header(id="cafe", space=SPACE))
    for number in range(1, 6):
        writer.ask({"optim.lr": 1e-3}, "first")
        writer.write("intent", trial=number, attempt=1, name=f"nd-{number}")
        if number < 5:
            writer.write("started", trial=number, attempt=1, started_s=3600.0)
    for number, value in ((1, 0.5), (2, 0.6)):
        fields = {"state": "complete", "value": value, "value_se": 0.01, "ended_s": 7200.0}
        writer.write("finished", trial=number, **fields)
    writer.write("finished", trial=3, state="failed", reason="out_of_memory", ended_s=3600.0)
    writer.close()
    return writer.study


def test_counts_and_times_are_those_of_the_trials(study):
    s = summarise(study, now_s=7200.0)
    assert (s.trials, s.complete, s.failed, s.running, s.queued) == (5, 2, 1, 1, 1)
    assert s.node_h == 3.0
    assert s.failures == {"out_of_memory": 1}
    assert s.eta_s(trials=11, workers=4) == (11 - 3) * 3600 / 4


def test_the_best_is_told_with_its_interval(study):
    assert value_text(study.best()) == "0.6000 [0.5804, 0.6196]"  # 1.96 standard errors
    line = one_line(summarise(study, 7200.0), trials=11, workers=4)
    assert line == (
        "2/11 complete, 1 failed, 0 cancelled, 1 running, 1 queued; "
        "best 0.6000 [0.5804, 0.6196] in trial 2; about 2:00:00 to go"
    )


def test_a_row_tells_the_state_as_people_know_it(study):
    states = [trial_row(t, 7200.0)[1] for t in study.trials]
    assert states == ["complete", "complete", "failed (out_of_memory)", "running", "queued"]
    assert trial_row(study.trial(4), 7200.0)[3] == "1:00:00"


def test_a_log_gets_events_at_once_and_the_summary_seldom(study):
    now = [0.0]
    stream = io.StringIO()
    with Display(stream, trials=11, workers=4, clock=lambda: now[0]) as display:
        display.say("trial 1 complete: 0.5000")
        display.show(study)
        now[0] = PLAIN_EVERY_S - 1
        display.show(study)
        assert stream.getvalue().count("\n") == 2
        study.apply({"kind": "finished", "t": 0.0, "trial": 4, "state": "cancelled"})
        now[0] = PLAIN_EVERY_S
        display.show(study)
    assert "1 cancelled" in stream.getvalue().splitlines()[2]


def test_a_terminal_gets_a_table(study, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    with Display(stream, trials=11, workers=4, clock=lambda: 7200.0) as display:
        display.say("trial 2 complete: 0.6000")
        display.show(study)
    text = stream.getvalue()
    assert "0.6000 [0.5804, 0.6196]" in text
    assert "queued" in text
    assert "trial 2 complete" in text


@pytest.mark.parametrize("width", [44, 80, 150])
def test_on_a_narrow_terminal_columns_are_whole_or_not_there(study, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    with Display(stream, trials=11, workers=4, clock=lambda: 7200.0) as display:
        display.show(study)
    text = stream.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "failed (out_of_memory)" in text
    assert ("0.001" in text) == (width >= 80)
    assert ("columns that do not" in text) == (width < 150)


def test_an_interval_of_pauc_stays_within_0_and_1(study):
    study.apply({"kind": "finished", "t": 0.0, "trial": 4, "state": "complete", "value": 0.0})
    zero = replace(study.trial(4), value_se=0.1)
    assert value_text(zero) == "0.0000 [0.0000, 0.1960]"
