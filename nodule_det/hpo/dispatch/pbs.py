"""OpenPBS and PBS Professional, by qsub, qstat, qdel and qselect, and Slurm's wrappers of them.

Every rule here comes from answers of real servers (recorded with OpenPBS 23.06, with job history on
and off, and with Slurm 22.05's wrappers):

- An exit code is an error number modulo 256 and may come with a useful answer: parse first.
- With several ids, the client opens a connection for each.  A list of all jobs takes one.
- "Unknown Job Id" and "Job has finished" mean that a job has ended.  A job that is not mentioned
  may still exist.
- JSON output omits jobs in one version and is invalid in another: only text is parsed.
- A variable's value may look like a line of the answer: the first ``job_state`` of a record counts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.hpo.dispatch.base import (
    Explanation,
    Job,
    JobReport,
    JobState,
    MissingCommand,
    Refused,
    Unavailable,
)
from nodule_det.hpo.dispatch.listing import Listing
from nodule_det.hpo.dispatch.shell import Answer, ask, look_up, user_name
from nodule_det.hpo.dispatch.slurm import SlurmDispatcher

HELD = "H"
STATES = {
    "Q": JobState.QUEUED,
    HELD: JobState.QUEUED,
    "W": JobState.QUEUED,  # waits for its start time
    "T": JobState.QUEUED,  # on its way to another server
    "M": JobState.QUEUED,  # moved to another server
    "R": JobState.RUNNING,
    "E": JobState.RUNNING,  # exiting: its files are still being copied
    "B": JobState.RUNNING,  # array that has started
    "S": JobState.RUNNING,  # suspended
    "U": JobState.RUNNING,  # suspended while a person uses the workstation
    "F": JobState.GONE,
    "X": JobState.GONE,
    "C": JobState.GONE,  # Torque and Slurm's wrapper
}
UNKNOWN_JOB = 153
"""Exit code of PBS for an unknown job.  Slurm's wrapper prints no message with it."""
_ID = re.compile(r"^\d+(\[\])?(\.[\w.-]+)?$")
_OVER = re.compile(
    r"(\d+(?:\[\])?(?:\.[\w.-]+)?) Job has finished|Unknown Job Id(?: Error)? (\d\S*)"
)
"""Torque writes "Unknown Job Id Error"."""
_NOT_THERE = re.compile(r"Job has finished|Unknown Job Id|invalid state for job - COMPLETE")
_DOWN = re.compile(
    r"cannot connect to server|Connection refused|Problem loading jobs|Invalid credential|"
    r"Unable to authenticate|reserved ports? in use|End of File|Communication failure",
    re.I,
)
_PLAIN = re.compile(r"^(\d+(?:\[\])?\S*)\s.*\s([A-Z])(?:\s+\S+){1,3}\s*$")
"""A line of a table: the state is followed by the queue or the elapsed time, and at some sites by
two more columns (efficiency, waiting time)."""
_NEVER = re.compile(r"can never run", re.I)
_MEMORY = re.compile(
    r"^(=>> PBS: job killed: [vp]?mem .*|.*Cgroup mem(sw)? limit exceeded.*"
    r"|.*exceeded resource [vp]?mem\b.*)$",
    re.M | re.I,
)
"""How PBS reports that it killed a job for its memory: in the job's log, or in its comment."""
_ENDED = re.compile(r"^=>> PBS: job killed: .*$", re.M)
"""How PBS reports in a job's log that it ended the job, for instance at its wall-clock limit."""
_PASSES = re.compile(
    r"cannot connect to server|Connection|would exceed|not enabled|Unable to contact|"
    r"timed out|try again|partition not available|End of File|Premature end|"
    r"Maximum number of jobs already in queue|Server shutting down|PBS server internal error|"
    r"System error|No free connections|(Expired|Invalid) credential|Failed to save job|"
    r"reserved ports? in use|Failed to (recv|receive|send) data|Unable to authenticate|pbs_iff|"
    r"auth: error|Communication failure|Resource temporarily unavailable|No Permission to connect",
    re.I,
)
"""Messages of a temporary refusal: limits, a closed queue, an unreachable or overloaded server.
They include the errors after which OpenPBS's own router tries again."""


class PbsDispatcher:
    """A PBS server.

    Args:
        config: Queue, resources and other settings of the site.
        script: ``scripts/submit_pbs.sh``.
    """

    COMMANDS: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel")

    def __init__(self, config: DispatcherConfig, script: Path) -> None:
        self._config = config
        self._script = script
        details = config.poll_details
        self._listing = Listing(self._list_all, self._ask_one, key=_number, reasons=details)

    def submit(self, job: Job) -> str:
        """Submit with qsub; see :class:`Dispatcher`."""
        answer = self._ask(self._words(job))
        ids = [line for line in answer.stdout.split("\n") if _ID.match(line.strip())]
        if answer.code == 0 and ids:
            return ids[-1].strip()
        if answer.code == 0 or _PASSES.search(answer.stderr + answer.stdout):
            raise Unavailable(str(answer))
        raise Refused(f"{answer}; correct the settings below dispatcher")

    def find(self, job: Job) -> str | None:
        """Query by name: qselect with history, without, or qstat if there is no qselect."""
        server = ["-q", self._server] if self._server else []
        for history in (["-x"], []):
            words = ["qselect", *history, *server, "-u", user_name(), "-N", job.name]
            try:
                answer = self._ask(words)
            except MissingCommand:
                return self._find_in_qstat(job)
            ids = [line.strip() for line in answer.stdout.split("\n") if _ID.match(line.strip())]
            for job_id in ids:
                if self._is_of_folder(job_id, history, job.folder):
                    return job_id
            if answer.code != 0 and _DOWN.search(answer.stderr):
                raise Unavailable(str(answer))
        if answer.code != 0:
            raise Unavailable(str(answer))
        return None

    def _is_of_folder(self, job_id: str, history: list[str], folder: Path) -> bool:
        """Check the folder of a job, since a job of a copy of the study has the same name."""
        answer = self._ask(["qstat", *history, "-f", job_id])
        if _DOWN.search(answer.stderr):
            raise Unavailable(str(answer))
        return all(_may_be_of(attributes, folder) for _, attributes in _records(answer.stdout))

    def _find_in_qstat(self, job: Job) -> str | None:
        """Search all jobs.  If there are none, Slurm's wrapper exits with code 153."""
        answer = self._ask(["qstat", "-f"])
        if answer.code == UNKNOWN_JOB and not (answer.stdout + answer.stderr).strip():
            return None
        if answer.code != 0:
            raise Unavailable(str(answer))
        for job_id, attributes in _records(answer.stdout):
            if attributes.get("Job_Name") == job.name and _may_be_of(attributes, job.folder):
                return job_id
        return None

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Query with one qstat; see :class:`Listing`."""
        return self._listing.poll(ids)

    def _list_all(self) -> dict[str, JobReport]:
        server = [self._server] if self._server else []
        answer = self._ask(["qstat", "-u", user_name(), *server])
        reports = dict(read_reports(answer))
        none = answer.code == UNKNOWN_JOB and not answer.stderr.strip()  # Slurm's wrapper
        if answer.code != 0 and not reports and not none:
            raise Unavailable(str(answer))
        return reports

    def _ask_one(self, job_id: str) -> JobReport | None:
        details = ["-f"] if self._config.poll_details else []
        answer = self._ask(["qstat", *details, job_id])
        report = dict(read_reports(answer)).get(_number(job_id))
        if report is None and answer.code == UNKNOWN_JOB and not answer.stderr.strip():
            return JobReport(JobState.GONE, "unknown")  # Slurm's wrapper prints no message
        if report is None and answer.code != 0:
            raise Unavailable(str(answer))
        return report

    def cancel(self, ids: Sequence[str]) -> str:
        """Cancel with qdel; ended jobs are not an error. See :class:`Dispatcher`."""
        if not ids:
            return ""
        answer = self._ask(["qdel", *ids])
        if answer.code != 0 and _PASSES.search(answer.stderr + answer.stdout):
            raise Unavailable(str(answer))
        refused = [line for line in answer.stderr.splitlines() if not _NOT_THERE.search(line)]
        if answer.code == 0 or not " ".join(refused).strip():
            return ""
        stay = [i for i in ids if any(i in line for line in refused)] or list(ids)
        return (
            f"{' '.join(refused).strip()}; if the node of such a job will not return, end it by "
            f"hand: qdel -W force {' '.join(stay)}"
        )

    def preview(self, job: Job) -> str:
        """Return the qsub command of a job; see :class:`Dispatcher`."""
        return shlex.join(self._words(job))

    def place(self) -> str:
        """Query the name of the server; Slurm's wrapper has none. See :class:`Dispatcher`.

        The table of ``qstat -B`` would truncate it, so that two servers could look the same.
        """
        server = [self._server.removeprefix("@")] if self._server else []
        return look_up(
            ["qstat", "-B", "-f", *server], r"^Server:[ \t]*(\S+)", self._config.timeout_s
        )

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return True: any host can query the server. See :class:`Dispatcher`."""
        return True

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare ids, ignoring a missing server name or domain."""
        names = [id_.lower().partition(".")[2].split(".") for id_ in (one, other)]
        shared = min(len(name) for name in names) if all(names[0] + names[1]) else 0
        return _number(one) == _number(other) and names[0][:shared] == names[1][:shared]

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the qdel command; see :class:`Dispatcher`."""
        return f"qdel {job_id}"

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Search comment and log, also for Slurm's messages, since its wrapper acts as PBS."""
        if found := _MEMORY.search(comment) or _MEMORY.search(log):
            return Explanation(found[0].strip(), out_of_memory=True)
        ended = _ENDED.findall(log)
        return Explanation(ended[-1].strip()) if ended else SlurmDispatcher.explain(log, comment)

    def _words(self, job: Job) -> list[str]:
        c = self._config
        queue = ["-q", c.queue] if c.queue else []
        resources = [f"select={c.select}"] if c.select else []
        resources += [f"walltime={_clock_time(c.walltime_s)}"] if c.walltime_s else []
        more, variables = _take_options(c.submit_args, "-v")
        if c.join_resources:
            more, others = _take_options(more, "-l")
            resources = [",".join([*resources, *others])] if resources + others else []
        limits = [word for resource in resources for word in ("-l", resource)]
        return [
            *("qsub", *more, "-N", job.name, "-r", "n", "-j", "oe", "-o", str(job.log)),
            *(*queue, *limits),
            *("-v", ",".join([f"NODULE_JOB={job.folder}", *variables]), str(self._script)),
        ]

    @property
    def _server(self) -> str:
        """``@server`` of a queue on another server, which lists its jobs; otherwise empty."""
        return "@" + self._config.queue.partition("@")[2] if "@" in self._config.queue else ""

    def _ask(self, words: Sequence[str]) -> Answer:
        return ask(words, self._config.timeout_s)


def _take_options(words: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """Split the values of an option off the arguments, since qsub would use only the last one.

    Example:
        >>> _take_options(["-v", "A=1", "-P", "x", "-vB=2"], "-v")
        (['-P', 'x'], ['A=1', 'B=2'])
    """
    rest: list[str] = []
    values: list[str] = []
    each = iter(words)
    for word in each:
        if word == name:
            values += [value for value in [next(each, "")] if value]
        elif word.startswith(name):
            values.append(word.removeprefix(name))
        else:
            rest.append(word)
    return rest, values


def _may_be_of(attributes: Mapping[str, str], folder: Path) -> bool:
    """Return False if a job was submitted for another folder.  Some sites hide the variables."""
    variables = attributes.get("Variable_List", "").split(",")
    folders = [v.partition("=")[2] for v in variables if v.startswith("NODULE_JOB=")]
    return not folders or folders[0] == str(folder)


def _clock_time(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{s:02d}"


def _number(job_id: str) -> str:
    """Return what identifies a job of one server; plain qstat truncates the server's name."""
    return job_id.split(".")[0]


def read_reports(answer: Answer) -> Iterator[tuple[str, JobReport]]:
    """Parse an answer into a report for each job, keyed by its number."""
    for finished, unknown in _OVER.findall(answer.stderr):
        yield _number(finished or unknown), JobReport(JobState.GONE, "over")
    if "Job Id:" in answer.stdout:
        for job_id, attributes in _records(answer.stdout):
            letter = attributes.get("job_state", "")
            if letter in STATES:
                comment = attributes.get("comment", "")
                holds = attributes.get("Hold_Types", "n")
                if letter == HELD and not comment and holds not in ("n", "u"):
                    comment = f"Hold_Types={holds}"
                yield _number(job_id), _report(letter, comment.strip())
        return
    for line in answer.stdout.split("\n"):
        match = _PLAIN.match(line)
        if match and match[2] in STATES:
            yield _number(match[1]), _report(match[2], "")


def _report(letter: str, comment: str) -> JobReport:
    state = STATES[letter]
    never = state is JobState.QUEUED and _NEVER.search(comment) is not None
    return JobReport(state, comment, never_runs=never, held=letter == HELD)


def _records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Split ``qstat -f`` into jobs and their attributes, in either layout.

    PBS writes ``Job Id: 12.pbs01`` and indents by four blanks, Slurm's wrapper ``Job Id:<TAB>12``
    and a tab.  A long value continues after a tab.  Line ends in values are printed raw, so the
    first of equal names counts.
    """
    for block in re.split(r"^Job Id:[ \t]+", text, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        attributes: dict[str, str] = {}
        last = ""
        for line in body.split("\n"):
            match = re.match(r"^(?: {4}|\t)([A-Za-z_][\w.]*) = (.*)$", line)
            if match:
                last = match[1] if match[1] not in attributes else ""
                attributes.setdefault(match[1], match[2])
            elif line.startswith("\t") and last:
                attributes[last] += line[1:]
        yield head.strip(), attributes
