"""What a person sees of a driver: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nodule_det.hpo.space import Space
from nodule_det.hpo.study import Study
from nodule_det.hpo.summary import COLUMNS, one_line, param_cells, summarise, trial_row
from nodule_det.hpo.trial import Trial

PLAIN_EVERY_S = 300.0
"""Between two summary lines in a log: a study may take weeks."""
ROWS = 20
EVENTS = 6


def table(space: Space, trials: list[Trial], now_s: float) -> Table:
    """Lay trials out as a table, one column for each tuned parameter."""
    names = [p.name for p in space.free]
    out = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        out.add_column(column, no_wrap=True)
    for name in names:
        out.add_column(name.rpartition(".")[2], overflow="ellipsis", no_wrap=True)
    for trial in trials:
        out.add_row(*trial_row(trial, now_s), *param_cells(trial, names))
    return out


class Display:
    """Shows events and the state of a study.

    Args:
        stream: Where to write.
        trials: Goal of the study, for the estimate of the time left.
        workers: Jobs at a time.
        clock: Unix seconds.
    """

    def __init__(
        self, stream: TextIO, trials: int, workers: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._stream = stream
        self._trials, self._workers = trials, workers
        self._clock = clock
        self._events: list[str] = []
        self._said_s = float("-inf")
        self._said = ""
        live = stream.isatty()
        self._live = Live(console=Console(file=stream), auto_refresh=False) if live else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Tell of an event."""
        stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(self._clock()))
        line = f"{stamp} {text}"
        self._events = [*self._events[1 - EVENTS :], line]
        if not self._live:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def show(self, study: Study) -> None:
        """Show where a study stands, if it is time to."""
        now = self._clock()
        summary = summarise(study, now)
        line = one_line(summary, self._trials, self._workers)
        if self._live:
            rows = _interesting(study)
            self._live.update(
                Group(
                    Text(line, style="bold"),
                    table(study.space, rows, now),
                    Text("\n".join(self._events)),
                )
            )
            self._live.refresh()
        elif line != self._said and abs(now - self._said_s) >= PLAIN_EVERY_S:
            self._said, self._said_s = line, now
            self.say(line)


def _interesting(study: Study) -> list[Trial]:
    """Pick what fits on a screen: the best, what is under way, and what ended last."""
    best = study.best()
    pending = list(study.pending)[:ROWS]
    ended = [t for t in study.trials if not t.pending]
    ended.sort(key=lambda t: t.finished_s or 0.0)
    room = max(3, ROWS - len(pending))
    last = [t for t in ended[-room:] if t is not best]
    return [*([best] if best else []), *pending, *reversed(last)]
