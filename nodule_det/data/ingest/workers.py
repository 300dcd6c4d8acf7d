"""Worker processes in which a crash or a hang loses one item, and not the rest.

    items ──spread(task, items, crew)──▶ (item, result or Died), in the order in which they end

Each worker has its own pipe, so the item of a killed worker is known, and another worker replaces
it.  A worker that takes too long is killed.  A worker whose parent is gone finds its pipe closed
and exits.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from nodule_det.cpus import available_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


JOIN_S = 10.0
"""How long to wait for a killed process: one that waits for a dead file server cannot end."""


@dataclass(frozen=True)
class Died:
    """A worker that died while processing an item."""

    exit_code: int
    """Exit code of the process: -9 if killed by signal 9, 1 after an exception (printed)."""
    overdue_s: float | None = None
    """The time limit, if it was killed for exceeding that."""


@dataclass(frozen=True)
class Crew:
    """How tasks run in worker processes.

    Attributes:
        workers: Number of processes, 1 or more.
        timeout_s: Time limit of each item.
        silent: Whether to discard what libraries print, which may name files.
    """

    workers: int = 1
    timeout_s: float = math.inf
    silent: bool = False


def why_died(died: Died) -> str:
    """Return a message on why a worker died, and what to do."""
    if died.overdue_s is not None:
        return (
            f"reading it took longer than scan_timeout_s={died.overdue_s:g}; copy the scan to a "
            "disk that responds, or raise scan_timeout_s"
        )
    if died.exit_code == -signal.SIGKILL:
        return (
            "its worker process was killed (out of memory?); the same command resumes, and "
            "workers=1 needs the least memory"
        )
    if died.exit_code < 0:
        return (
            f"its worker process was ended by signal {-died.exit_code}: a library crashed on a "
            "damaged file; copy the scan again"
        )
    return (
        f"its worker process ended with exit code {died.exit_code} (its output, if any, is on the "
        "terminal); the same command tries it again"
    )


@dataclass
class _Worker(Generic[Item]):
    connection: Connection
    process: SpawnProcess
    item: Item
    deadline_s: float

    def hand(self, item: Item, timeout_s: float) -> None:
        """Send the worker its next item."""
        self.item, self.deadline_s = item, time.monotonic() + timeout_s
        with suppress(BrokenPipeError):  # it died just now: reading from it will say so
            self.connection.send(item)

    def result(self, timeout_s: float) -> Any:
        """Return the result, once it is there or its time is over."""
        left_s = self.deadline_s - time.monotonic()
        try:
            if self.connection.poll(None if left_s == math.inf else max(0.0, left_s)):
                return self.connection.recv()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self.process.join()
            return Died(self.process.exitcode or 0)
        self.process.kill()
        self.process.join(JOIN_S)
        return Died(-signal.SIGKILL, timeout_s)


def crew_size(asked: int, n_items: int) -> int:
    """Return the number of processes to start: 0 means one for each CPU this job may use."""
    return min(asked or available_cpus(), max(1, n_items))


def spread(
    task: Callable[[Item], Result], items: Sequence[Item], crew: Crew
) -> Generator[tuple[Item, Result | Died], None, None]:
    """Run a task on every item; closing the iterator ends the workers at once.

    Args:
        task: A function that can be pickled, as can its items and results.
        items: The items, processed in order.
        crew: How many processes, and their limits.

    Yields:
        Each item once, with its result.
    """
    waiting = deque(items)
    busy: dict[Connection, _Worker[Item]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < crew.workers:
                worker = _start(task, waiting.popleft(), crew)
                busy[worker.connection] = worker
            first_s = min(worker.deadline_s for worker in busy.values())
            left_s = None if first_s == math.inf else max(0.0, first_s - time.monotonic())
            ready = set(wait(list(busy), left_s))
            now_s = time.monotonic()
            for worker in list(busy.values()):
                if worker.connection not in ready and now_s < worker.deadline_s:
                    continue
                item, result = worker.item, worker.result(crew.timeout_s)
                if waiting and not isinstance(result, Died):
                    worker.hand(waiting.popleft(), crew.timeout_s)
                else:
                    del busy[worker.connection]
                    worker.connection.close()
                yield item, result
    finally:
        for worker in busy.values():
            worker.process.terminate()
            worker.process.join(JOIN_S)


class Apart(Generic[Item, Result]):
    """A task that runs in a separate process, one item at a time.

    The process starts with the first item, is replaced if it dies, and ends with this object.
    """

    def __init__(self, task: Callable[[Item], Result], crew: Crew) -> None:
        self._task, self._crew = task, crew
        self._worker: _Worker[Item] | None = None

    def __call__(self, item: Item) -> Result | Died:
        """Run the task on an item, and return its result, or how the process died."""
        if self._worker is None:
            self._worker = _start(self._task, item, self._crew)
        else:
            self._worker.hand(item, self._crew.timeout_s)
        result: Result | Died = self._worker.result(self._crew.timeout_s)
        if isinstance(result, Died):
            self._worker.connection.close()
            self._worker = None
        return result


def _start(task: Callable[[Item], Any], item: Item, crew: Crew) -> _Worker[Item]:
    # spawn: a forked child may inherit a lock held by one of ITK's threads
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(task, theirs, crew.silent), daemon=True)
    resource_tracker.ensure_running()  # starting it lifts the block on Ctrl-C, so it comes first
    with _interrupts_held_back():
        process.start()
    theirs.close()
    worker = _Worker(ours, process, item, math.inf)
    worker.hand(item, crew.timeout_s)
    return worker


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a child inherit that it does not hear Ctrl-C: its parent does, and ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Callable[[Item], Result], connection: Connection, silent: bool) -> None:
    if silent:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    try:
        while True:
            connection.send(task(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nothing more to do, or the parent is gone
