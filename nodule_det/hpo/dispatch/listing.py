"""One query per poll, for any number of jobs.

    poll 1: all jobs of the user ──▶ states; a job that is missing is doubtful
    poll 2: one doubtful job, by id ──▶ if it has ended, so have the others missing from the list
            or one waiting job, by id ──▶ why it waits
    poll 3: all jobs again, and so on

PBS clients open and authenticate a connection for each id, until the login node runs out of ports.
A list of all jobs takes one connection.  A job that is missing from it may still exist (it may have
moved to another server, or an answer may be empty), so one job is queried by id before any is
reported as gone.  A list without any job may be one that is not understood: then several are
queried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nodule_det.hpo.dispatch.base import JobReport, JobState, Unavailable

ENDED_ENOUGH = 3
"""Number of jobs in a row that must have ended, by their ids, before an empty list means that all
have."""
WHY_AGAIN_POLLS = 20
"""Number of polls before the reason of a waiting job is queried again."""


class Listing:
    """Polls jobs for a dispatcher.

    Args:
        list_all: Reports of all jobs of this user, by key.
        ask_one: Report of one job by its id; None if the answer does not mention it.
        key: Converts an id to the key in ``list_all``.
        reasons: Whether ``ask_one`` reports more about a waiting job than ``list_all``.
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
        """Jobs that have ended.  One that is listed again was requeued."""
        self._asked: dict[str, int] = {}
        """Number of the poll that last queried a job by its id."""
        self._polls = 0
        self._enough = ENDED_ENOUGH
        """Number of ended jobs that show that all jobs missing from the last list have ended."""
        self._ended = 0
        """Number of doubtful jobs in a row that had ended, since a list last showed a job."""
        self._listed = False
        """Whether the last poll was a list; then the next one may query a single job."""

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Report on jobs with one query; see :meth:`Dispatcher.poll`."""
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
        self._enough = 1 if seen else ENDED_ENOUGH
        self._ended = 0 if seen else self._ended
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
            raise Unavailable(f"the batch system's answer does not mention job {job_id}")
        self._last[job_id] = report
        if job_id in self._doubtful and report.state is JobState.GONE:
            self._ended += 1
            ended = self._doubtful if self._ended >= self._enough else [job_id]
            self._last |= dict.fromkeys(ended, report)
            self._gone.update(ended)
            self._doubtful = [i for i in self._doubtful if i not in ended]
        elif job_id in self._doubtful:
            self._ended = 0
            self._doubtful.remove(job_id)
