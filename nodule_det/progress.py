"""Progress: a live bar on a terminal, a plain line every 30 seconds in a batch log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

Item = TypeVar("Item")

PLAIN_EVERY_S = 30.0
"""Seconds between two lines in a log: short enough to follow, long enough for a week's log."""
LIVE_EVERY_S = 0.1


def duration(seconds: float) -> str:
    """Format a time span.

    Example:
        >>> duration(75), duration(7384)
        ('1:15', '2:03:04')
    """
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Write a number of things, with a plural in -s unless another one is named.

    Example:
        >>> counted(1, "job"), counted(1200, "job"), counted(2, "scan is", "scans are")
        ('1 job', '1,200 jobs', '2 scans are')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def of_total(n: int, total: int, noun: str, one: str = "", many: str = "") -> str:
    """Write how many of some things, with a verb for one and for many of them.

    Example:
        >>> of_total(1, 5, "scan"), of_total(1, 1, "scan", "is", "are")
        ('1 of 5 scans', '1 of 1 scan is')
    """
    verb = one if n == 1 else many
    return f"{n:,} of {counted(total, noun)}{verb and f' {verb}'}"


class Progress:
    """Counts steps towards a total, and shows the elapsed and remaining time.

    On a terminal it is a bar that disappears at the end; elsewhere a line every ``plain_every_s``.

    Args:
        label: What is being counted.
        total: Number of steps.
        stream: Where to write; standard error by default, so that results can be piped.
        clock: Returns seconds; tests pass their own, so that they need not wait.
        plain_every_s: Seconds between lines where the stream is not a terminal.
        enabled: False counts without output, for all but one of several processes.
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
        self._bar = _Bar(label, total, self._stream) if enabled and self._stream.isatty() else None
        self._every_s = LIVE_EVERY_S if self._bar else plain_every_s
        self._start_s = self._shown_s = clock()
        self._first = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.close()

    def start_at(self, done: int) -> None:
        """Start with the steps of an earlier session, which the ETA must not count."""
        self.done = self._first = done

    def advance(self, note: str = "", steps: int = 1) -> None:
        """Count steps, and show them if it is time to."""
        self.done += steps
        now = self._clock()
        if self._enabled and now - self._shown_s >= self._every_s:
            self._shown_s = now
            self._show(note)

    def _show(self, note: str) -> None:
        elapsed_s = self._clock() - self._start_s
        fresh = self.done - self._first
        eta = duration(elapsed_s / fresh * (self.total - self.done)) if fresh else "?"
        times = f"elapsed {duration(elapsed_s)}, ETA {eta}" + (f"  {note}" if note else "")
        if self._bar:
            self._bar.show(self.done, times)
        else:
            self._stream.write(f"{self.label} {self.done}/{self.total}  {times}\n")
            self._stream.flush()


class _Bar:
    """One line of a terminal, drawn by rich without its thread, since workers may be forked."""

    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[times]}", markup=False),
            console=Console(file=stream, force_terminal=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,  # results may be piped while the bar is on the terminal
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(label, total=total, times="")

    def show(self, done: int, times: str) -> None:
        self._bar.start()  # no effect once it has started
        self._bar.update(self._task, completed=done, times=times)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.stop()


def track(items: Iterable[Item], label: str, total: int) -> Iterator[Item]:
    """Yield the items, counting them as progress."""
    with Progress(label, total) as progress:
        for item in items:
            yield item
            progress.advance()
