"""Progress for people: a live bar on a terminal, one plain line at an interval in a batch log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")

PLAIN_EVERY_S = 30.0
"""Between two lines in a log: frequent enough to see life, rare enough for a week's log."""


def duration(seconds: float) -> str:
    """Write a time span the short way.

    Example:
        >>> duration(75), duration(7384)
        ('1:15', '2:03:04')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class Progress:
    """Counts steps towards a total, and says how far it is and how long it will take.

    On a terminal it rewrites one line; elsewhere it prints a line every ``plain_every_s``.

    Args:
        label: What is being counted.
        total: Steps in all.
        stream: Where to write; standard error by default, so results can be piped.
        clock: Seconds; an argument, so that no test has to wait.
        plain_every_s: Seconds between lines where the stream is no terminal.
        enabled: False counts in silence: of several processes one speaks.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        plain_every_s: float = PLAIN_EVERY_S,
        enabled: bool = True,
    ) -> None:
        self.label, self.total, self.done = label, total, 0
        self._stream = stream or sys.stderr
        self._clock = clock
        self._enabled = enabled
        self._live = enabled and self._stream.isatty()
        self._every_s = 0.1 if self._live else plain_every_s
        self._start_s = self._said_s = clock()
        self._first = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def start_at(self, done: int) -> None:
        """Begin with steps already done, which took no time now (a resumed run)."""
        self.done = self._first = done

    def advance(self, note: str = "", steps: int = 1) -> None:
        """Count steps; show them if it is time to."""
        self.done += steps
        now = self._clock()
        if self._enabled and now - self._said_s >= self._every_s:
            self._said_s = now
            self.show(note)

    def show(self, note: str = "") -> None:
        """Write where things stand."""
        passed_s = self._clock() - self._start_s
        fresh = self.done - self._first
        eta = duration(passed_s / fresh * (self.total - self.done)) if fresh else "?"
        text = f"{self.label} {self.done}/{self.total}"
        text += f"  {duration(passed_s)} passed, {eta} to go" + (f"  {note}" if note else "")
        self._stream.write(f"\r\x1b[K{text[:110]}" if self._live else f"{text}\n")
        self._stream.flush()


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items, counting them as progress."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
