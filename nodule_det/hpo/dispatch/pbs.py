"""OpenPBS and PBS Professional by qsub, qstat, qdel and qselect; Slurm's copies of them as well.

What real servers answer (recorded with OpenPBS 23.06, history on and off, and with Slurm 22.05's
wrappers) shaped every rule here:

- an exit code is an error number modulo 256 and may come with a useful answer: parse first;
- with several ids, the good ones are printed and the bad ones named on stderr;
- "Unknown Job Id" and "Job has finished" say a job is over; one not mentioned says nothing;
- JSON output drops jobs in one version and is invalid in another: only text is read;
- a variable's value may look like a line of the answer: the first ``job_state`` of a record counts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import (
    Explanation,
    Job,
    JobReport,
    JobState,
    Refused,
    Unavailable,
)
from nodule_det.hpo.dispatch.shell import Answer, ask, look_up
from nodule_det.hpo.dispatch.slurm import SlurmDispatcher

HELD = "H"
STATES = {
    "Q": JobState.QUEUED,
    HELD: JobState.QUEUED,
    "W": JobState.QUEUED,  # waits for its start time
    "T": JobState.QUEUED,  # on its way to another server
    "M": JobState.QUEUED,  # moved to another server
    "R": JobState.RUNNING,
    "E": JobState.RUNNING,  # exiting: its files are still on their way
    "B": JobState.RUNNING,  # array that has begun
    "S": JobState.RUNNING,  # suspended
    "U": JobState.RUNNING,  # suspended: a person sits at the workstation
    "F": JobState.GONE,
    "X": JobState.GONE,
    "C": JobState.GONE,  # Torque and Slurm's wrapper
}
UNKNOWN_JOB = 153
"""Exit code of PBS for a job that it does not know; Slurm's wrapper says no word with it."""
_ID = re.compile(r"^\d+(\[\])?(\.[\w.-]+)?$")
_OVER = re.compile(r"(\d+(?:\[\])?(?:\.[\w.-]+)?) Job has finished|Unknown Job Id (\S+)")
_DOWN = re.compile(r"cannot connect to server|Connection refused|Problem loading jobs", re.I)
_PLAIN = re.compile(r"^(\d+(?:\[\])?\S*)\s.*\s([A-Z])\s+\S+\s*$")
_NEVER = re.compile(r"can never run", re.I)
_MEMORY = re.compile(
    r"^(=>> PBS: job killed: [vp]?mem .*|.*Cgroup mem(sw)? limit exceeded.*"
    r"|.*exceeded resource [vp]?mem\b.*)$",
    re.M | re.I,
)
"""How PBS reports that it killed a job for its memory: in the job's log, or in its comment."""
_ENDED = re.compile(r"^=>> PBS: job killed: .*$", re.M)
"""How it reports, in a job's log, that it ended it, such as at its wall-clock limit."""
_PASSES = re.compile(
    r"cannot connect to server|Connection|would exceed|not enabled|Unable to contact|"
    r"timed out|try again|partition not available|End of File|Premature end|"
    r"Maximum number of jobs already in queue|Server shutting down|PBS server internal error|"
    r"System error|No free connections|Expired credential|Failed to save job",
    re.I,
)
"""Words of a refusal that may pass: limits, a closed queue, a server that is away or in trouble.
They include those of the errors after which OpenPBS's own router tries again."""


class PbsDispatcher:
    """Talks to a PBS server.

    Args:
        config: Queue, resources and what else the site wants.
        script: ``scripts/submit_pbs.sh``.
    """

    def __init__(self, config: DispatcherConfig, script: Path) -> None:
        self._config = config
        self._script = script

    def submit(self, job: Job) -> str:
        """Submit by qsub; see :class:`Dispatcher`."""
        answer = self._ask(self._words(job))
        ids = [line for line in answer.stdout.split("\n") if _ID.match(line.strip())]
        if answer.code == 0 and ids:
            return ids[-1].strip()
        if answer.code == 0 or _PASSES.search(answer.stderr + answer.stdout):
            raise Unavailable(str(answer))
        raise Refused(f"{answer}; correct the settings below dispatcher")

    def find(self, job: Job) -> str | None:
        """Ask by name: qselect with history, without, and qstat where there is no qselect."""
        for words in (["qselect", "-x", "-N", job.name], ["qselect", "-N", job.name]):
            try:
                answer = self._ask(words)
            except Unavailable:
                raise
            except DispatchError:
                return self._find_in_qstat(job.name)
            ids = [line.strip() for line in answer.stdout.split("\n") if _ID.match(line.strip())]
            if ids:
                return ids[0]
            if _DOWN.search(answer.stderr):
                raise Unavailable(str(answer))
        if answer.code != 0:
            raise Unavailable(str(answer))
        return None

    def _find_in_qstat(self, name: str) -> str | None:
        """Look through all jobs; where there is none at all, Slurm's wrapper leaves with 153."""
        answer = self._ask(["qstat", "-f"])
        if answer.code == UNKNOWN_JOB and not (answer.stdout + answer.stderr).strip():
            return None
        if answer.code != 0:
            raise Unavailable(str(answer))
        for job_id, attributes in _records(answer.stdout):
            if attributes.get("Job_Name") == name:
                return job_id
        return None

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Ask for all by one qstat; see :class:`Dispatcher`."""
        if not ids:
            return {}
        details = ["-f"] if self._config.poll_details else []
        answer = self._ask(["qstat", *details, *ids])
        seen = dict(_reports(answer))
        if not seen and _DOWN.search(answer.stderr):
            raise Unavailable(str(answer))
        reports = {i: seen[_number(i)] for i in ids if _number(i) in seen}
        if not _DOWN.search(answer.stderr):
            for job_id in ids:
                if job_id not in reports:
                    reports.update(self._poll_alone(job_id, details))
        return reports

    def _poll_alone(self, job_id: str, details: Sequence[str]) -> dict[str, JobReport]:
        """Ask for an id that was not mentioned: Slurm's wrapper names no unknown id."""
        answer = self._ask(["qstat", *details, job_id])
        seen = dict(_reports(answer))
        if _number(job_id) in seen:
            return {job_id: seen[_number(job_id)]}
        unknown = answer.code == UNKNOWN_JOB
        return {job_id: JobReport(JobState.GONE, "unknown")} if unknown else {}

    def cancel(self, ids: Sequence[str]) -> None:
        """Ask by qdel; jobs that are over already are no error. See :class:`Dispatcher`."""
        if not ids:
            return
        answer = self._ask(["qdel", *ids])
        if answer.code != 0 and _PASSES.search(answer.stderr + answer.stdout):
            raise Unavailable(str(answer))

    def preview(self, job: Job) -> str:
        """Write the qsub command of a job; see :class:`Dispatcher`."""
        return shlex.join(self._words(job))

    def place(self) -> str:
        """Ask for the name of the server; Slurm's wrapper tells none. See :class:`Dispatcher`."""
        return look_up(["qstat", "-B"], r"^Server\b.*\n[- ]+\n(\S+)", self._config.timeout_s)

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return True: its server is asked from any host. See :class:`Dispatcher`."""
        return True

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare ids; one with and one without its server's name are equal."""
        return _number(one) == _number(other)

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the qdel command; see :class:`Dispatcher`."""
        return f"qdel {job_id}"

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Search comment and log, for Slurm's messages as well: its wrapper answers as PBS."""
        if found := _MEMORY.search(comment) or _MEMORY.search(log):
            return Explanation(found[0].strip(), out_of_memory=True)
        ended = _ENDED.findall(log)
        return Explanation(ended[-1].strip()) if ended else SlurmDispatcher.explain(log, comment)

    def _words(self, job: Job) -> list[str]:
        c = self._config
        queue = ["-q", c.queue] if c.queue else []
        resources = [f"select={c.select}"] if c.select else []
        resources += [f"walltime={_clock_time(c.walltime_s)}"] if c.walltime_s else []
        if c.join_resources and resources:
            resources = [",".join(resources)]
        limits = [word for resource in resources for word in ("-l", resource)]
        return [
            *("qsub", "-N", job.name, "-r", "n", "-j", "oe", "-o", str(job.log)),
            *(*queue, *limits, *c.submit_args),
            *("-v", f"NODULE_JOB={job.folder}", str(self._script)),
        ]

    def _ask(self, words: Sequence[str]) -> Answer:
        return ask(words, self._config.timeout_s)


def _clock_time(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{s:02d}"


def _number(job_id: str) -> str:
    """Return what identifies a job of one server; plain qstat cuts the server's name."""
    return job_id.split(".")[0]


def _reports(answer: Answer) -> Iterator[tuple[str, JobReport]]:
    """Read what an answer says of each job, keyed by its number."""
    for finished, unknown in _OVER.findall(answer.stderr):
        yield _number(finished or unknown), JobReport(JobState.GONE, "over")
    if "Job Id:" in answer.stdout:
        for job_id, attributes in _records(answer.stdout):
            letter = attributes.get("job_state", "")
            if letter in STATES:
                comment = attributes.get("comment", "")
                if letter == HELD and "held" not in comment.lower():
                    comment = f"held by Hold_Types={attributes.get('Hold_Types', '?')} {comment}"
                yield _number(job_id), _report(letter, comment.strip())
        return
    for line in answer.stdout.split("\n"):
        match = _PLAIN.match(line)
        if match and match[2] in STATES:
            yield _number(match[1]), _report(match[2], "held" if match[2] == HELD else "")


def _report(letter: str, comment: str) -> JobReport:
    state = STATES[letter]
    never = state is JobState.QUEUED and _NEVER.search(comment) is not None
    return JobReport(state, comment, never_runs=never, held=letter == HELD)


def _records(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Split ``qstat -f`` into jobs and their attributes, in either layout.

    PBS writes ``Job Id: 12.pbs01`` and four blanks, Slurm's wrapper ``Job Id:<TAB>12`` and a tab.
    A long value goes on after a tab; a value with line ends is printed raw, so the first of equal
    names counts.
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
