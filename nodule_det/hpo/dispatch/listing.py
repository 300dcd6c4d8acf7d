"""One question a poll, however many jobs there are.

    poll 1: all jobs of the user ──▶ states; a job that is missing is doubtful
    poll 2: one doubtful job, by id ──▶ over: so are the others that the list did not have
            or one waiting job, by id ──▶ why it waits
    poll 3: all jobs again, and so on

A client of PBS opens, and authenticates, one connection for each id it is given; login nodes run
out of ports that way.  A list of all jobs takes one.  That a job is missing from it does not prove
that the job is over (a job may have moved to another server, an answer may be empty), so a job is
asked for by id before any is called gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nodule_det.hpo.dispatch.base import JobReport, JobState, Unavailable

WHY_AGAIN_POLLS = 20
"""Polls before a waiting job is asked again why it waits."""


class Listing:
    """Polls jobs for a dispatcher.

    Args:
        list_all: Reports of all jobs of this user, by key.
        ask_one: Report of one job by its id; None if the answer does not mention it.
        key: What identifies a job in ``list_all``, given its id.
        reasons: Whether ``ask_one`` says more of a waiting job than ``list_all``.
    """

    def __init__(
        self,
        list_all: Callable[[], Mapping[str, JobReport]],
        ask_one: Callable[[str], JobReport | None],
        *,
        key: Callable[[str], str] = str,
        reasons: bool = False,
    ) -> None:
        self._list_all, self._ask_one, self._key, self._reasons = list_all, ask_one, key, reasons
        self._last: dict[str, JobReport] = {}
        self._doubtful: list[str] = []
        self._gone: set[str] = set()
        """Jobs that are over; one that is listed again was put back into the queue."""
        self._asked: dict[str, int] = {}
        """The number of the poll that last asked for a job by its id."""
        self._polls = 0
        self._listed = False
        """Whether the last poll was a list: then one job may be asked for."""

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Report on jobs by one question; see :meth:`Dispatcher.poll`."""
        if not ids:
            return {}
        self._polls += 1
        self._doubtful = [i for i in self._doubtful if i in ids]
        one = self._next_one(ids) if self._listed else None
        self._listed = one is None
        if one is None:
            self._take_list(ids)
        else:
            self._take_one(one)
        return {i: self._last[i] for i in ids if i in self._last and i not in self._doubtful}

    def _next_one(self, ids: Sequence[str]) -> str | None:
        def when(job_id: str) -> int:
            return self._asked.get(job_id, -WHY_AGAIN_POLLS)

        if self._doubtful:
            return min(self._doubtful, key=when)
        waiting = [i for i in ids if i in self._last and self._last[i].state is JobState.QUEUED]
        due = [i for i in waiting if self._polls - when(i) >= WHY_AGAIN_POLLS]
        return min(due, key=when, default=None) if self._reasons else None

    def _take_list(self, ids: Sequence[str]) -> None:
        seen = self._list_all()
        self._doubtful = []
        for job_id in ids:
            report = seen.get(self._key(job_id))
            if report is not None:
                self._last[job_id] = self._with_reason(job_id, report)
                self._gone.discard(job_id)
            elif job_id not in self._gone:
                self._doubtful.append(job_id)

    def _with_reason(self, job_id: str, report: JobReport) -> JobReport:
        before = self._last.get(job_id)
        if (
            before is None
            or before.state is not JobState.QUEUED
            or report.state is not before.state
        ):
            return report
        if report.comment or report.held != before.held:
            return report
        return replace(report, comment=before.comment, never_runs=before.never_runs)

    def _take_one(self, job_id: str) -> None:
        self._asked[job_id] = self._polls
        report = self._ask_one(job_id)
        if report is None:
            raise Unavailable(f"the batch system was asked for job {job_id} and said nothing of it")
        self._last[job_id] = report
        if job_id in self._doubtful and report.state is JobState.GONE:
            self._last |= dict.fromkeys(self._doubtful, report)
            self._gone.update(self._doubtful)
            self._doubtful = []
        elif job_id in self._doubtful:
            self._doubtful.remove(job_id)
