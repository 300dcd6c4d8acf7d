"""The real clock, and a virtual one that passes a week in a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The clock of the driver."""

    def now(self) -> float:
        """Return Unix seconds, for records; may jump."""

    def monotonic(self) -> float:
        """Return seconds that never jump, for waiting."""

    def sleep(self, seconds: float) -> None:
        """Wait for this time or less."""


class WallClock:
    """The real time.  ``wake`` ends a sleep immediately."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._woken.wait(seconds)

    def wake(self) -> None:
        """End this sleep and all later ones."""
        self._woken.set()


class VirtualClock:
    """Time that passes only in ``sleep``.

    Args:
        start_s: Unix seconds at the beginning.
    """

    def __init__(self, start_s: float = 1_800_000_000.0) -> None:
        self._passed_s = 0.0
        self._start_s = start_s
        self.next_event: Callable[[], float | None] = lambda: None
        """Returns the monotonic time of the next event, so that empty waits are skipped."""

    def now(self) -> float:
        return self._start_s + self._passed_s

    def monotonic(self) -> float:
        return self._passed_s

    def sleep(self, seconds: float) -> None:
        """Advance to the first multiple of ``seconds`` at which an event has happened."""
        event = self.next_event()
        waits = 1
        if event is not None and event > self._passed_s:
            waits = max(1, -int(-(event - self._passed_s) // seconds))
        self._passed_s += waits * seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as a time server does."""
        self._start_s += seconds
