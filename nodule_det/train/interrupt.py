"""When a run pauses: on a signal, or shortly before its wall-clock limit.

SIGTERM, SIGINT, limits.wall_s ──▶ Stop.reason() ──fit()──▶ last.pt, exit code 85
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

WALL_MARGIN_S = 20.0
"""Seconds reserved before the wall-clock limit for saving.  A checkpoint takes a second, or ten on
a busy network disk."""
WALL_MARGIN_SHARE = 0.25
"""Largest fraction of a short limit that is reserved."""

REASONS = {signal.SIGTERM: "sigterm", signal.SIGINT: "sigint"}


class Stop:
    """Whether a run must stop.

    Args:
        wall_s: Wall-clock limit of this session in seconds; 0 sets no limit.
        started_s: Start of the session, by ``clock``.
        clock: Returns seconds; tests pass their own, so that they need not wait.
    """

    def __init__(
        self, wall_s: float, started_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._end_s = started_s + wall_s if wall_s else float("inf")
        self._end_s -= min(WALL_MARGIN_S, WALL_MARGIN_SHARE * wall_s)
        self._clock = clock
        self._came: int | None = None

    def reason(self, needed_s: float = 0.0) -> str | None:
        """Return why to stop before work of ``needed_s`` seconds, or None if it may begin."""
        if self._came is not None:
            return REASONS[signal.Signals(self._came)]
        return "wall_clock" if self._clock() + needed_s > self._end_s else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Record SIGTERM (from a batch system) and SIGINT (Ctrl-C) instead of ending at once.

        A second signal ends the process immediately.
        """
        old = {number: signal.signal(number, self._note) for number in REASONS}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._came is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._came = number
