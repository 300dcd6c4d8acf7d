"""When a run pauses: a signal came, or its wall-clock limit is near.

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
"""Left before the wall-clock limit for saving: a checkpoint takes a second, on a busy network
disk ten."""
WALL_MARGIN_SHARE = 0.25
"""Of a short limit not all may be margin."""

REASONS = {signal.SIGTERM: "sigterm", signal.SIGINT: "sigint"}


class Stop:
    """Knows whether to stop.

    Args:
        wall_s: Wall-clock seconds of this session; 0 sets no limit.
        started_s: When it began, by ``clock``.
        clock: Seconds; an argument, so that no test has to wait.
    """

    def __init__(
        self, wall_s: float, started_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._end_s = started_s + wall_s if wall_s else float("inf")
        self._end_s -= min(WALL_MARGIN_S, WALL_MARGIN_SHARE * wall_s)
        self._clock = clock
        self._came: int | None = None

    def reason(self, needed_s: float = 0.0) -> str | None:
        """Say why to stop before work of ``needed_s`` seconds; None if it may begin."""
        if self._came is not None:
            return REASONS[signal.Signals(self._came)]
        return "wall_clock" if self._clock() + needed_s > self._end_s else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM (a batch system's last word) and SIGINT (Ctrl-C) instead of dying of them.

        A second signal is meant: it kills at once.
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
