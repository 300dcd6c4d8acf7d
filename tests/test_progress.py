"""Progress on a terminal and in a log; time is an argument."""

from __future__ import annotations

import io

from nodule_det.progress import Progress


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
        "scans 2/10  0:40 passed, 2:40 to go\n"
        "scans 4/10  1:20 passed, 2:00 to go\n"
        "scans 6/10  2:00 passed, 1:20 to go\n"
        "scans 8/10  2:40 passed, 0:40 to go\n"
        "scans 10/10  3:20 passed, 0:00 to go\n"
    )


def test_a_terminal_gets_one_line_that_is_wiped_at_the_end():
    text = count(Terminal(), 1.0)
    assert "\n" not in text
    assert text.count("\rscans") + text.count("\r\x1b[Kscans") == 10
    assert text.endswith("\r\x1b[K")


def test_steps_done_before_a_resume_do_not_count_as_speed():
    assert "scans 9/10  0:40 passed, 0:40 to go" in count(io.StringIO(), 40.0, done=8)
