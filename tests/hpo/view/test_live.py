import io

import pytest

from nodule_det.hpo.view.live import PLAIN_EVERY_S, Display


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_events_at_once_and_the_summary_rarely(study):
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
def test_on_a_narrow_terminal_columns_are_complete_or_omitted(study, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    with Display(stream, trials=11, workers=4, clock=lambda: 7200.0) as display:
        display.show(study)
    text = stream.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "failed (out_of_memory)" in text
    assert ("0.001" in text) == (width >= 80)
    assert ("more columns do not fit" in text) == (width < 150)


def test_events_are_safe_to_print():
    stream = io.StringIO()
    Display(stream, trials=1, workers=1, clock=lambda: 0.0).say("bad\x1b[2J\nnews")
    assert stream.getvalue().endswith(" bad?[2J news\n")


def test_a_study_survives_a_log_that_cannot_be_written():
    class Full(io.StringIO):
        full = True

        def write(self, text):
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Full()
    display = Display(stream, trials=1, workers=1, clock=lambda: 0.0)
    display.say("lost")
    stream.full = False
    display.say("seen")
    first, second = stream.getvalue().splitlines()
    assert "could not be written: No space left on device" in first
    assert second.endswith(" seen")
