"""One session of the driver: from the command to the last line it prints.

HpoConfig ──run_session()──▶ Driver with the real clock, a display, and a Ctrl-C handler
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from nodule_det.config.hpo import HpoConfig, Stop
from nodule_det.hpo.dispatch import make_dispatcher
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.open_study import missing_store, open_study, require_reachable
from nodule_det.hpo.strategy.strategy import make_strategy
from nodule_det.hpo.study.lock import StudyLock
from nodule_det.hpo.study.study import Header, Study, StudyFolder
from nodule_det.hpo.view.live import Display
from nodule_det.hpo.view.summary import one_line, summarise

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as of any command."""


def run_session(
    folder: StudyFolder, config: HpoConfig, header: Header, lock: StudyLock, stream: TextIO
) -> int | None:
    """Drive a study until it is done or interrupted; returns the exit code of the command."""
    clock = WallClock()
    writer = open_study(folder, header, clock.now)
    display = Display(stream, config.trials, config.workers)
    try:
        dispatcher, failures = make_dispatcher(config.dispatcher), config.acquisition.failures
        place = dispatcher.place()
        require_reachable(writer.study, config.dispatcher, place)
        writer.start_session(config.workers, config.dispatcher.kind.value, failures, place)
        driver = Driver(
            DriverContext(
                writer=writer,
                dispatcher=dispatcher,
                propose=make_strategy(config.acquisition.strategy),
                config=config,
                clock=clock,
                workdir=Path.cwd(),
                say=display.say,
            )
        )
        if config.stop is Stop.jobs:
            driver.stop_jobs()
        elif unseen := missing_store(config):
            display.say(unseen)
        if lock.took_over is not None:
            display.say(f"took over the lock of {lock.took_over}, which is gone")
        for problem in driver.study.problems:
            display.say(problem)
        with display, _interrupts(clock.wake) as interrupted:
            done = driver.run(interrupted, lock.beat, lambda: display.show(driver.study))
    finally:
        writer.close()
    print(closing_words(driver.study, config, folder, done))
    return None if done else INTERRUPTED


def closing_words(study: Study, config: HpoConfig, folder: StudyFolder, done: bool) -> str:
    """Write the last line: where the study stands, and how to go on."""
    summary = summarise(study, time.time())
    text = f"{folder.path}: {one_line(summary)}"
    if done:
        return text
    again = shlex.join(["python", "-m", "nodule_det.hpo", *sys.argv[1:]])
    return (
        f"{text}\n{summary.running + summary.queued} jobs go on without the driver.  "
        f"To go on:       {again}\nTo cancel them:  {again} stop=jobs"
    )


@contextmanager
def _interrupts(wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C, kill and a closed terminal into a wish that the driver obeys between steps."""
    wished: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        wished.append(number)
        wake()
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # a second Ctrl-C is obeyed at once

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, handle) for n in numbers}
    try:
        yield lambda: bool(wished)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
