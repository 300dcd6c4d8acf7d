"""Slurm, by sbatch, squeue and scancel.

squeue lists a job only for some minutes after its end (MinJobAge), and accounting may be off.  So a
job that is missing from the list of a user's jobs is queried by id: "Invalid job id" means that it
has ended.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.hpo.dispatch.base import (
    Explanation,
    Job,
    JobReport,
    JobState,
    Refused,
    Unavailable,
)
from nodule_det.hpo.dispatch.listing import Listing
from nodule_det.hpo.dispatch.shell import Answer, ask, look_up, user_name

_RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
_QUEUED = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
    *("RESV_DEL_HOLD", "REVOKED"),
}
_NEVER = re.compile(
    r"Invalid(Account|QOS)|(Account|QOS)NotAllowed|DependencyNeverSatisfied|BadConstraints|"
    r"Partition(Time|Node)Limit|(QOS|Assoc)Max\w+Per(Job|Node)\w*|QOSMin\w+|MaxMemPerLimit|"
    r"ReservationDeleted"
)
"""Reasons of a pending job that waiting does not resolve: the job requests what it cannot get.
Limits per user, group or partition are not included, since they are temporary."""
_HELD = re.compile(r"JobHeld\w+|JobHoldMaxRequeue|launch failed requeued held|.*\bheld\b.*", re.I)
_HELD_STATES = {"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_MEMORY = re.compile(
    r"^(slurmstepd\S*: .*(oom.kill|OOM Killed|memory limit).*|OUT_OF_MEMORY.*)$", re.M | re.I
)
"""How Slurm reports a job killed for its memory: in the job's log, or by its state in a poll."""
_ENDED = re.compile(r"^slurmstepd\S*: error: \*\*\* .*$", re.M)
"""How Slurm reports in a job's log that it ended the job, for instance at its wall-clock limit."""
_UNKNOWN = re.compile(r"Invalid job id specified", re.I)
_OVER = re.compile(r"Invalid job id specified|already completing or completed", re.I)
_PASSES = re.compile(
    r"Unable to contact|connect failure|timed out|Socket|temporarily|try again|Transport endpoint|"
    r"Zero Bytes|submit limit|MaxSubmit|MaxJobs|(?<!node configuration is )not available",
    re.I,
)
"""Messages of a temporary refusal.  A node configuration that is "not available" does not exist."""


class SlurmDispatcher:
    """A Slurm controller.

    Args:
        config: Partition, limits and other settings of the site.
        script: ``scripts/submit_pbs.sh``.
    """

    COMMANDS: ClassVar[tuple[str, ...]] = ("sbatch", "squeue", "scancel")

    def __init__(self, config: DispatcherConfig, script: Path) -> None:
        self._config = config
        self._script = script
        self._listing = Listing(self._list_all, self._ask_one)

    def submit(self, job: Job) -> str:
        """Submit with sbatch; see :class:`Dispatcher`."""
        answer = self._ask(self._words(job))
        ids = re.findall(r"^(\d+)(?:;\S+)?$", answer.stdout, re.M)
        if answer.code == 0 and ids:
            return str(ids[-1])
        if answer.code == 0 or _PASSES.search(answer.stderr):
            raise Unavailable(str(answer))
        raise Refused(f"{answer}; correct the settings below dispatcher")

    def find(self, job: Job) -> str | None:
        """Query squeue by name; see :class:`Dispatcher`."""
        mine = ["-u", user_name(), "-n", job.name]
        answer = self._ask(["squeue", "-h", "-t", "all", *mine, "-o", "%A|%o"])
        if answer.code != 0:
            raise Unavailable(str(answer))
        for line in answer.stdout.splitlines():
            job_id, bar, command = line.partition("|")
            ours = f" {job.folder} " in f" {command} " or str(self._script) not in command
            if bar and ours:
                return job_id
        return None

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Query with one squeue; see :class:`Listing`."""
        return self._listing.poll(ids)

    def _list_all(self) -> dict[str, JobReport]:
        answer = self._squeue("-u", user_name())
        if answer.code != 0:
            raise Unavailable(str(answer))
        return _reports(answer)

    def _ask_one(self, job_id: str) -> JobReport | None:
        answer = self._squeue("-j", job_id)
        if answer.code != 0 and _UNKNOWN.search(answer.stderr):
            return JobReport(JobState.GONE, "unknown")
        if answer.code != 0:
            raise Unavailable(str(answer))
        return _reports(answer).get(job_id)

    def _squeue(self, *which: str) -> Answer:
        return self._ask(["squeue", "-h", "-t", "all", *which, "-o", "%A|%T|%r"])

    def cancel(self, ids: Sequence[str]) -> str:
        """Cancel with scancel; ended jobs are not an error. See :class:`Dispatcher`."""
        if not ids:
            return ""
        answer = self._ask(["scancel", *ids])
        if answer.code != 0 and _PASSES.search(answer.stderr):
            raise Unavailable(str(answer))
        refused = [line for line in answer.stderr.splitlines() if not _OVER.search(line)]
        return " ".join(refused).strip() if answer.code != 0 else ""

    def preview(self, job: Job) -> str:
        """Return the sbatch command of a job; see :class:`Dispatcher`."""
        return shlex.join(self._words(job))

    def place(self) -> str:
        """Query the name of the cluster; see :class:`Dispatcher`."""
        words = ["scontrol", "show", "config"]
        return look_up(words, r"^ClusterName\s*=\s*(\S+)$", self._config.timeout_s)

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return True: any host can query the controller. See :class:`Dispatcher`."""
        return True

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare ids; see :class:`Dispatcher`."""
        return one == other

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the scancel command; see :class:`Dispatcher`."""
        return f"scancel {job_id}"

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Search state and log; see :class:`Dispatcher`."""
        if found := _MEMORY.search(comment) or _MEMORY.search(log):
            return Explanation(found[0].strip(), out_of_memory=True)
        ended = _ENDED.findall(log)
        return Explanation(ended[-1].strip()) if ended else None

    def _words(self, job: Job) -> list[str]:
        c = self._config
        partition = [f"--partition={c.queue}"] if c.queue else []
        limit = [f"--time={max(1, int(c.walltime_s // 60))}"] if c.walltime_s else []
        return [
            *("sbatch", "--parsable", *c.submit_args, "--no-requeue", f"--job-name={job.name}"),
            *(f"--output={job.log}", "--open-mode=append", *partition, *limit),
            *(str(self._script), str(job.folder), "SLURM_JOB_ID"),
        ]

    def _ask(self, words: Sequence[str]) -> Answer:
        return ask(words, self._config.timeout_s)


def _reports(answer: Answer) -> dict[str, JobReport]:
    lines = [line.split("|") for line in answer.stdout.split("\n") if line.count("|") == 2]
    return {job_id: _report(state, reason) for job_id, state, reason in lines}


def _report(state: str, reason: str) -> JobReport:
    if state in _RUNNING:
        return JobReport(JobState.RUNNING)
    if state in _QUEUED:
        return JobReport(
            JobState.QUEUED,
            reason,
            never_runs=_NEVER.fullmatch(reason) is not None,
            held=state in _HELD_STATES or _HELD.fullmatch(reason) is not None,
        )
    return JobReport(JobState.GONE, f"{state} {reason}")
