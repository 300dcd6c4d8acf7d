"""Worker processes in which a crash loses one item, and not the rest.

    items ──spread(task, items, workers)──▶ (item, result or Died), in the order in which they end

Each worker has its own pipe, so the item of a killed worker is known, and another worker replaces
it.  A worker whose parent is gone finds its pipe closed and exits.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from nodule_det.cpus import available_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Died:
    """A worker that died while processing an item."""

    exit_code: int
    """Exit code of the process: -9 if killed by signal 9, 1 after an exception (printed)."""


def why_died(died: Died) -> str:
    """Return a message on why a worker died, and what to do."""
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
        f"its worker process ended with exit code {died.exit_code}, see above; the same command "
        "tries it again"
    )


@dataclass
class _Worker(Generic[Item]):
    process: SpawnProcess
    item: Item


def crew_size(asked: int, n_items: int) -> int:
    """Return the number of processes to start: 0 means one for each CPU this job may use."""
    return min(asked or available_cpus(), max(1, n_items))


def spread(
    task: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Generator[tuple[Item, Result | Died], None, None]:
    """Run a task on every item; closing the iterator ends the workers at once.

    Args:
        task: A function that can be pickled, as can its items and results.
        items: The items, processed in order.
        workers: Number of processes, 1 or more.

    Yields:
        Each item once, with its result.
    """
    waiting = deque(items)
    crew: dict[Connection, _Worker[Item]] = {}
    try:
        while waiting or crew:
            while waiting and len(crew) < workers:
                connection, process = _start(task)
                crew[connection] = _Worker(process, waiting.popleft())
                _hand(connection, crew[connection].item)
            ready = set(wait(list(crew)))
            for connection in [c for c in crew if c in ready]:
                worker = crew[connection]
                item, result = worker.item, _result(connection, worker.process)
                if waiting and not isinstance(result, Died):
                    worker.item = waiting.popleft()
                    _hand(connection, worker.item)
                else:
                    del crew[connection]
                    connection.close()
                yield item, result
    finally:
        for worker in crew.values():
            worker.process.terminate()
            worker.process.join()


class Apart(Generic[Item, Result]):
    """A task that runs in a separate process, one item at a time.

    The process starts with the first item, is replaced if it dies, and ends with this object.
    """

    def __init__(self, task: Callable[[Item], Result]) -> None:
        self._task = task
        self._worker: tuple[Connection, SpawnProcess] | None = None

    def __call__(self, item: Item) -> Result | Died:
        """Run the task on an item, and return its result, or how the process died."""
        self._worker = self._worker or _start(self._task)
        connection, process = self._worker
        _hand(connection, item)
        result: Result | Died = _result(connection, process)
        if isinstance(result, Died):
            connection.close()
            self._worker = None
        return result


def _start(task: Callable[[Item], Result]) -> tuple[Connection, SpawnProcess]:
    # spawn: a forked child may inherit a lock held by one of ITK's threads
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(task, theirs), daemon=True)
    with _interrupts_held_back():
        process.start()
    theirs.close()
    return ours, process


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a child inherit that it does not hear Ctrl-C: its parent does, and ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand(connection: Connection, item: Item) -> None:
    with suppress(BrokenPipeError):  # it died just now: reading from it will say so
        connection.send(item)


def _result(connection: Connection, process: SpawnProcess) -> Any:
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        return Died(process.exitcode or 0)


def _work(task: Callable[[Item], Result], connection: Connection) -> None:
    try:
        while True:
            connection.send(task(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nothing more to do, or nobody to do it for
