"""Progress on a terminal and in a log, with a clock passed as an argument."""

from __future__ import annotations

import io

from nodule_det.progress import Progress, counted


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def count(stream, seconds_a_step, steps=10, done=0):
    clock = Clock()
    with Progress("scans", steps, stream=stream, clock=clock, plain_every_s=30) as progress:
        progress.start_at(done)
        for _ in range(steps - done):
            clock.now += seconds_a_step
            progress.advance()
    return stream.getvalue()


def test_a_log_gets_one_plain_line_at_an_interval():
    assert count(io.StringIO(), 20.0) == (
        "scans 2/10  elapsed 0:40, ETA 2:40\n"
        "scans 4/10  elapsed 1:20, ETA 2:00\n"
        "scans 6/10  elapsed 2:00, ETA 1:20\n"
        "scans 8/10  elapsed 2:40, ETA 0:40\n"
        "scans 10/10  elapsed 3:20, ETA 0:00\n"
    )


def test_a_terminal_gets_one_line_that_is_erased_at_the_end():
    text = count(Terminal(), 1.0)
    assert [f"{n}/10" in text for n in (1, 10)] == [True, True]
    assert "elapsed 0:10, ETA 0:00" in text
    assert text.count("\n") == 1  # at the end, and rich goes back up and wipes the line
    assert text.endswith("\x1b[1A\x1b[2K")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is shown again"


def test_a_fast_loop_does_not_draw_every_step():
    text = count(Terminal(), 1 / 16, steps=100)
    assert text.count("/100") == 52, "the first, every second (1/8 s apart), and the last"


def test_only_one_of_several_processes_shows_progress():
    stream = Terminal()
    with Progress("scans", 1, stream=stream, enabled=False) as progress:
        progress.advance()
    assert (progress.done, stream.getvalue()) == (1, "")


def test_steps_of_earlier_sessions_do_not_count_for_the_eta():
    assert "scans 9/10  elapsed 0:40, ETA 0:40" in count(io.StringIO(), 40.0, done=8)


def test_only_one_of_a_thing_is_singular():
    assert [counted(n, "job") for n in (0, 1, 2, 1200)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "1,200 jobs",
    ]
