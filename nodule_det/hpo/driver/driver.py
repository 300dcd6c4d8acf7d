"""The asynchronous loop: read, collect, propose, submit, sleep.

    ┌▶ queue folder ─▶ result files ─▶ one poll ─▶ cancellations ──▶ free worker? propose, submit ┐
    └───────────────────────────────── sleep ◀──────────────────────────────────────────────────┘

Only the replay of the journal is kept between two steps, so a driver that is killed at any moment
resumes where it was.  These rules make every job run exactly once:

1. The intent to submit, with a unique job name, is on the disk before the submission.
2. An intent without an answer is resolved by querying the name before anything is submitted again.
3. A job claims its folder when it starts, so even a job submitted twice runs once.  The folder of a
   job that never started is closed, so a job that starts later does not run.
4. How a job ended is read only from files that the job wrote.  The batch system only reports that
   it is gone.
5. No answer, or an answer that does not mention a job, changes nothing.

The clock and the batch system are arguments, so simulations run the same code.  The steps are in
``collect`` and ``conclude`` (record what has happened), ``cancel`` (end jobs) and ``submit`` (start
jobs).  They share a ``DriverContext``.
"""

from __future__ import annotations

from collections.abc import Callable

from nodule_det.hpo.dispatch.base import MissingCommand, Unavailable
from nodule_det.hpo.driver.cancel import cancel_all, send_cancellations
from nodule_det.hpo.driver.collect import ask, collect, observe_running, take_queue
from nodule_det.hpo.driver.conclude import take_late_results
from nodule_det.hpo.driver.context import PASSING, DriverContext, SessionState
from nodule_det.hpo.driver.submit import check_setup, fill_workers, may_ask, settle
from nodule_det.hpo.driver.tidy import tidy
from nodule_det.hpo.study.study import Study

LONGEST_WAIT_S = 600.0
"""Longest wait between two queries of a batch system that does not answer."""
LONGEST_REFUSED_S = 60.0
"""Longest wait between two submissions to one that answers but refuses jobs for now."""


class Driver:
    """Runs a study until its trials or node hours are used up.

    Args:
        context: The study (whose lock is held), batch system, strategy, settings and clock.
    """

    def __init__(self, context: DriverContext) -> None:
        self._context = context

    @property
    def study(self) -> Study:
        return self._context.study

    @property
    def notes(self) -> SessionState:
        """State of this session only."""
        return self._context.notes

    def stop_jobs(self) -> None:
        """Cancel every job in the next step, and start no more trials."""
        self._context.stopping = True

    def run(
        self,
        interrupted: Callable[[], bool] = lambda: False,
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Step until everything is done; return False if interrupted before that.

        Even a finished study gets one step, because its queue folder may have new points.
        """
        while not interrupted():
            wait_s = self.try_step(before_step)
            after_step()
            if self.done():
                return True
            self._context.clock.sleep(wait_s)
        return False

    def done(self) -> bool:
        """Return whether no job is open, no trial waits for one, and no new trial is due."""
        if self._context.stopping:  # trials that never had a job wait for the next session
            return not any(t.attempts for t in self.study.pending)
        return not self.study.pending and not may_ask(self._context)

    def try_step(self, before: Callable[[], None] = lambda: None) -> float:
        """Do one step; return the seconds until the next, more after a temporary error.

        Args:
            before: Called first.  Its temporary file errors are handled in the same way.

        Raises:
            StudyError, DispatchError, ConfigError: For errors that waiting would not resolve.
        """
        try:
            before()
            self.step()
        except (Unavailable, MissingCommand, OSError) as error:
            if isinstance(error, OSError) and error.errno not in PASSING:
                raise
            if isinstance(error, MissingCommand) and not self.study.has_jobs:
                raise  # not loaded; if it has answered before, it may be gone during an upgrade
            self.notes.troubles += 1
            self.notes.ended_since.clear()  # without an answer no reason can be reported
            longest_s = LONGEST_REFUSED_S if self.notes.answered else LONGEST_WAIT_S
            poll_s = self._context.config.dispatcher.poll_s
            wait_s = max(poll_s, min(longest_s, poll_s * 2.0 ** min(self.notes.troubles, 20)))
            unnamed = isinstance(error, OSError) and error.filename is None
            where = f" ({self._context.writer.folder.path})" if unnamed else ""
            self._context.say(f"waiting {wait_s:g} s: {error}{where}")
            return wait_s
        self.notes.troubles = 0
        return self._context.config.dispatcher.poll_s

    def step(self) -> None:
        """Do everything that can be done now."""
        context = self._context
        context.notes.answered = False
        take_queue(context)
        reports, no_answer = ask(context)
        collect(context, reports)
        take_late_results(context)
        if no_answer is not None:
            raise no_answer
        if context.stopping:
            cancel_all(context)
        observe_running(context)
        send_cancellations(context)  # before submissions, where a full queue ends the step
        check_setup(context)
        settle(context)
        fill_workers(context)
        tidy(context)
