"""When a run must stop: signals, and the wall-clock limit."""

from __future__ import annotations

import os
import signal

import pytest

from nodule_det.train.interrupt import Stop


@pytest.mark.parametrize(
    ("wall_s", "now_s", "needed_s", "reason"),
    [
        (0.0, 1e9, 1e9, None),  # no limit
        (1000.0, 979.0, 0.0, None),  # 20 s are kept for saving
        (1000.0, 981.0, 0.0, "wall_clock"),
        (1000.0, 900.0, 79.0, None),
        (1000.0, 900.0, 81.0, "wall_clock"),
        (40.0, 29.0, 0.0, None),  # of a short limit a quarter
        (40.0, 31.0, 0.0, "wall_clock"),
    ],
)
def test_a_run_stops_shortly_before_its_limit(wall_s, now_s, needed_s, reason):
    assert Stop(wall_s, 0.0, clock=lambda: now_s).reason(needed_s) == reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_recorded_and_the_old_handler_is_restored(number):
    stop = Stop(0.0, 0.0)
    before = signal.getsignal(number)
    with stop.listening():
        assert stop.reason() is None
        os.kill(os.getpid(), number)
        assert stop.reason() == number.name.lower()
    assert signal.getsignal(number) == before
