import threading
import time

import pytest

from nodule_det.hpo.driver.clock import VirtualClock, WallClock


def test_virtual_time_only_passes_in_sleep():
    clock = VirtualClock(start_s=1000.0)
    clock.sleep(30.0)
    assert (clock.now(), clock.monotonic()) == (1030.0, 30.0)


@pytest.mark.parametrize(("event", "wakes"), [(100.0, 120.0), (120.0, 120.0), (10.0, 30.0)])
def test_empty_waits_are_skipped_to_the_poll_that_sees_the_event(event, wakes):
    clock = VirtualClock()
    clock.next_event = lambda: event
    clock.sleep(30.0)
    assert clock.monotonic() == wakes


def test_a_jump_only_moves_the_wall_clock():
    clock = VirtualClock(start_s=1000.0)
    clock.jump(-600.0)
    assert (clock.now(), clock.monotonic()) == (400.0, 0.0)


def test_waking_the_real_clock_ends_a_sleep():
    clock = WallClock()
    threading.Timer(0.05, clock.wake).start()
    before = time.monotonic()
    clock.sleep(60.0)
    assert time.monotonic() - before < 10
