"""One session of the driver: from the command to the last line it prints.

HpoConfig ──drive()──▶ Driver with the real clock, a display, and a Ctrl-C handler
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from nodule_det.config.hpo import HpoConfig, Stop, Strategy, require_job_path
from nodule_det.errors import StudyError
from nodule_det.hpo.dispatch import make_dispatcher, require_commands
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.dry_run import preview
from nodule_det.hpo.driver.forecast import SEARCH, Plan, has_time_limit, require_time, study_lines
from nodule_det.hpo.driver.open_study import (
    has_study,
    missing_store,
    new_header,
    open_study,
    refuse_unvalidated,
    require_in_place,
    require_reachable,
)
from nodule_det.hpo.model.expected import expect, save_expected
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.lock import StudyLock
from nodule_det.hpo.study.study import Header, Study, StudyFolder, read_study
from nodule_det.hpo.view.live import Display
from nodule_det.hpo.view.summary import expected_text, one_line, summarise
from nodule_det.progress import counted

INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, as for all commands."""


def drive(config: HpoConfig, plan: Plan = SEARCH) -> int | None:
    """Create or resume a study and run it until it is done or interrupted.

    Args:
        config: The study.
        plan: What is known of its trainings, and the command that they belong to.

    Returns:
        The exit code of the command; None if the study is done.

    Raises:
        NoduleDetError: For errors that waiting would not resolve.
    """
    # Absolute, since jobs start elsewhere.  Links are kept, since nodes may not have their targets.
    folder = StudyFolder(Path(os.path.abspath(os.path.expanduser(config.study))))
    require_job_path(str(folder.path), config.dispatcher)
    if config.dry_run:
        print(preview(folder, config, plan), end="")
        return None
    # Before the folder is created, so that a wrong setting does not leave one behind.
    if not has_study(folder):
        require_commands(config.dispatcher.kind)
    if config.stop is Stop.never:
        missing_store(config)
    elif not has_study(folder):
        raise StudyError(f"stop=jobs: {folder.path} is not a study, so it has no jobs to cancel")
    header = new_header(config, time.time())
    if config.stop is Stop.never:
        refuse_unvalidated(config, header.space, plan.points)
        _refuse_endless(folder, config, plan)
    folder.path.mkdir(parents=True, exist_ok=True)
    with StudyLock(folder.lock) as lock:
        return run_session(folder, config, header, lock, sys.stderr, plan)


def _refuse_endless(folder: StudyFolder, config: HpoConfig, plan: Plan) -> None:
    """Refuse trainings that cannot finish.

    Raises:
        ConfigError: If their time is forecast to exceed the limits of their jobs.
    """
    if not has_time_limit(config):
        return
    trials = read_study(folder.path).trials if has_study(folder) else ()
    require_time(config, read_space(config.search_space), trials, plan)


def run_session(
    folder: StudyFolder,
    config: HpoConfig,
    header: Header,
    lock: StudyLock,
    stream: TextIO,
    plan: Plan = SEARCH,
) -> int | None:
    """Run a study until it is done or interrupted; returns the exit code of the command."""
    clock = WallClock()
    writer = open_study(folder, header, clock.now)
    display = Display(stream, config.trials, config.workers)
    try:
        require_in_place(writer, config.study_was)
        dispatcher, failures = make_dispatcher(config.dispatcher), config.acquisition.failures
        place = dispatcher.place()
        require_reachable(writer.study, config.dispatcher, place)
        writer.start_session(config.workers, config.dispatcher.kind.value, failures, place)
        driver = Driver(
            DriverContext(
                writer=writer,
                dispatcher=dispatcher,
                propose=propose,
                config=config,
                clock=clock,
                workdir=Path.cwd(),
                say=display.say,
                asks=plan.enqueue is None,
            )
        )
        if config.stop is Stop.jobs:
            driver.stop_jobs()
        elif unseen := missing_store(config):
            display.say(unseen)
        if lock.took_over is not None:
            display.say(f"took over the lock of {lock.took_over}, which is gone")
        if config.stop is Stop.never:
            if plan.enqueue is not None:
                plan.enqueue()
            for line in study_lines(config, header.space, driver.study.trials, plan):
                display.say(line)
        for problem in driver.study.problems:
            display.say(problem)
        with display, _interrupts(clock.wake) as interrupted:
            done = driver.run(interrupted, lock.beat, lambda: display.show(driver.study))
    finally:
        writer.close()
    print(closing_words(driver.study, config, folder, done, plan.command))
    return None if done else INTERRUPTED


def _expectation(study: Study, config: HpoConfig, folder: StudyFolder) -> str:
    """Describe the trial with the highest expected value, and save it for ``status``."""
    if config.acquisition.strategy in (Strategy.random, Strategy.sobol):
        return ""  # no model was used, so torch need not be loaded now
    expected = expect(study)
    if expected is None:
        return ""
    save_expected(folder.path, study, expected)
    return f"; {expected_text(expected, study)}"


def closing_words(
    study: Study, config: HpoConfig, folder: StudyFolder, done: bool, name: str
) -> str:
    """Return the last line: the state of the study, and how to continue."""
    summary = summarise(study, time.time())
    text = f"{folder.path}: {one_line(summary)}"
    if done:
        return text + _expectation(study, config, folder)
    again = shlex.join(["python", "-m", f"nodule_det.{name}", *sys.argv[1:]])
    n_jobs = summary.running + summary.queued
    return (
        f"{text}\n{counted(n_jobs, 'job continues', 'jobs continue')} without the driver.\n"
        f"To continue the study:  {again}\nTo cancel its jobs:     {again} stop=jobs"
    )


@contextmanager
def _interrupts(wake: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C, SIGTERM and a closed terminal stop the driver between two steps."""
    wished: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        wished.append(number)
        wake()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C acts at once

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, handle) for n in numbers}
    try:
        yield lambda: bool(wished)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
