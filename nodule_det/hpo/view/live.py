"""The display of a running driver: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.view.summary import columns, one_line, param_cells, summarise, trial_row
from nodule_det.progress import counted
from nodule_det.untrusted import printable

PLAIN_EVERY_S = 300.0
"""Seconds between two summary lines in a log.  A study may take weeks."""
ROWS = 20
OUTCOME = 4
"""Number of columns that describe the outcome of a trial; they come first."""
GAP = 2
"""Spaces between two columns."""
EVENTS = 6


def table(study: Study, trials: Sequence[Trial], now_s: float, width: int = 10_000) -> Table:
    """Format trials as a table, with one column for each tuned parameter.

    Args:
        study: The study, whose space and objective define the columns.
        trials: The rows.
        now_s: Unix seconds.
        width: Characters per line.  Columns that do not fit are omitted: first the source and the
            number of attempts, then the last parameters.  A caption has their number.
    """
    names = [p.name for p in study.space.free]
    fixed = columns(study.objective)
    heads = [*fixed, *(name.rpartition(".")[2] for name in names)]
    rows = [[*trial_row(t, now_s, study.objective), *param_cells(t, names)] for t in trials]
    widths = [max(map(len, column)) + GAP for column in zip(heads, *rows, strict=True)]
    by_worth = [*range(OUTCOME), *range(len(fixed), len(heads)), *range(OUTCOME, len(fixed))]
    n_fit = int(np.searchsorted(np.cumsum([widths[i] for i in by_worth]), width + GAP, "right"))
    shown = sorted(by_worth[:n_fit])
    missing = len(heads) - len(shown)
    hint = f"{counted(missing, 'more column does', 'more columns do')} not fit here; "
    hint += "nodule_det.hpo.status shows all"
    caption = hint if missing else None
    out = Table(box=None, pad_edge=False, header_style="bold", caption=caption)
    for i in shown:
        out.add_column(heads[i], no_wrap=True)
    for row in rows:
        out.add_row(*(Text(row[i]) for i in shown))
    return out


class Display:
    """Shows events and the state of a study.

    Args:
        stream: Where to write.
        trials: Number of trials requested, for the estimate of the remaining time.
        workers: Number of concurrent jobs.
        clock: Unix seconds.
    """

    def __init__(
        self, stream: TextIO, trials: int, workers: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._stream = stream
        self._trials, self._workers = trials, workers
        self._clock = clock
        self._events: list[str] = []
        self._broken = ""
        self._said_s = float("-inf")
        self._said = ""
        live = stream.isatty()
        self._live = Live(console=Console(file=stream), auto_refresh=False) if live else None

    def __enter__(self) -> Display:
        if self._live:
            with self._surviving():
                self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            with self._surviving():
                self._live.stop()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Ignore a full disk, a closed pipe or a lost terminal, so that the study continues."""
        try:
            yield
        except OSError as error:
            self._broken = f"some lines of this log could not be written: {error.strerror}"

    def say(self, text: str) -> None:
        """Report an event."""
        stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(self._clock()))
        line = f"{stamp} {printable(text)}"
        self._events = [*self._events[1 - EVENTS :], line]
        if self._live:
            return
        with self._surviving():
            if self._broken:
                self._stream.write(f"{self._broken}\n")
                self._stream.flush()
                self._broken = ""
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def show(self, study: Study) -> None:
        """Show the state of a study; in a log only every few minutes."""
        now = self._clock()
        summary = summarise(study, now)
        line = one_line(summary, self._trials, self._workers)
        if self._live:
            rows = _interesting(study)
            self._live.update(
                Group(
                    Text(line, style="bold"),
                    table(study, rows, now, self._live.console.width),
                    Text("\n".join(self._events)),
                )
            )
            with self._surviving():
                self._live.refresh()
        elif line != self._said and abs(now - self._said_s) >= PLAIN_EVERY_S:
            self._said, self._said_s = line, now
            self.say(line)


def _interesting(study: Study) -> list[Trial]:
    """Select trials that fit on a screen: the best, the pending and the latest finished ones."""
    best = study.best()
    pending = list(study.pending)[:ROWS]
    ended = [t for t in study.trials if not t.pending]
    ended.sort(key=lambda t: t.finished_s or 0.0)
    rows = max(3, ROWS - len(pending))
    last = [t for t in ended[-rows:] if t is not best]
    return [*([best] if best else []), *pending, *reversed(last)]
