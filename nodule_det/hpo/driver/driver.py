"""The asynchronous loop: read, collect, ask, dispatch, sleep.

    ┌▶ queue folder ─▶ result files ─▶ one poll ─▶ early stopping ─▶ free worker? propose, submit ┐
    └───────────────────────────────── sleep ◀──────────────────────────────────────────────────┘

Nothing is remembered between two steps but the journal's replay, so a driver that was killed at any
moment resumes where it was.  The rules that make every job run exactly once:

1. the intent to submit, with a unique job name, is on the disk before the submission;
2. an intent without an answer is settled by asking for the name before anything is submitted again;
3. a job claims its folder when it starts, so even a job submitted twice runs once; what is given
   up without a start is claimed for nobody, so a job that turns up later does not run at all;
4. only files that the job wrote say how it ended; the batch system only says that it is gone;
5. no answer, or an answer that does not mention a job, changes nothing.

Time is an argument, and so is the batch system: simulations run this very code.  The steps are in
``collect`` and ``conclude`` (what has happened), ``cancel`` (what should end) and ``submit`` (what
should start).  They share a ``DriverContext``.
"""

from __future__ import annotations

from collections.abc import Callable

from nodule_det.hpo.dispatch.base import MissingCommand, Unavailable
from nodule_det.hpo.driver.cancel import cancel_all, send_cancellations, stop_early
from nodule_det.hpo.driver.collect import ask, collect, take_queue
from nodule_det.hpo.driver.conclude import take_late_results
from nodule_det.hpo.driver.context import PASSING, DriverContext, SessionState
from nodule_det.hpo.driver.submit import check_setup, fill_workers, may_ask, settle
from nodule_det.hpo.driver.tidy import tidy
from nodule_det.hpo.study.study import Study

LONGEST_WAIT_S = 600.0
"""Between two questions to a batch system that does not answer."""
LONGEST_REFUSED_S = 60.0
"""Between two submissions to one that does, but takes no more jobs for now."""


class Driver:
    """Runs a study until its trials or its node hours are used up.

    Args:
        context: The study (its lock held), the batch system, the strategy, the settings, time.
    """

    def __init__(self, context: DriverContext) -> None:
        self._context = context

    @property
    def study(self) -> Study:
        return self._context.study

    @property
    def notes(self) -> SessionState:
        """What is remembered of this session only."""
        return self._context.notes

    def stop_jobs(self) -> None:
        """Cancel every job from the next step on, and start no more trials."""
        self._context.stopping = True

    def run(
        self,
        interrupted: Callable[[], bool] = lambda: False,
        before_step: Callable[[], None] = lambda: None,
        after_step: Callable[[], None] = lambda: None,
    ) -> bool:
        """Step until everything is done; return False if interrupted before.

        A study that is done gets one step, because its queue folder may hold new points.
        """
        while not interrupted():
            wait_s = self.try_step(before_step)
            after_step()
            if self.done():
                return True
            self._context.clock.sleep(wait_s)
        return False

    def done(self) -> bool:
        """Whether no job is open, no trial waits for one, and no new trial is due."""
        if self._context.stopping:  # what never was a job waits for the next session
            return not any(t.attempts for t in self.study.pending)
        return not self.study.pending and not may_ask(self._context)

    def try_step(self, before: Callable[[], None] = lambda: None) -> float:
        """Do one step; return how long to wait for the next, longer after a passing trouble.

        Args:
            before: Called first.  The step also waits if this meets a passing file error.

        Raises:
            StudyError, DispatchError, ConfigError: What waiting would not cure.
        """
        try:
            before()
            self.step()
        except (Unavailable, MissingCommand, OSError) as error:
            if isinstance(error, OSError) and error.errno not in PASSING:
                raise
            if isinstance(error, MissingCommand) and not self.study.has_jobs:
                raise  # never loaded; once it has answered, it vanished in an upgrade
            self.notes.troubles += 1
            self.notes.ended_since.clear()  # without an answer nothing explains why a job ended
            longest_s = LONGEST_REFUSED_S if self.notes.answered else LONGEST_WAIT_S
            poll_s = self._context.config.dispatcher.poll_s
            wait_s = max(poll_s, min(longest_s, poll_s * 2.0 ** min(self.notes.troubles, 20)))
            where = f" ({self._context.writer.folder.path})" if isinstance(error, OSError) else ""
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
        stop_early(context)
        send_cancellations(
            context
        )  # before anything is submitted: a full queue ends the step there
        check_setup(context)
        settle(context)
        fill_workers(context)
        tidy(context)
