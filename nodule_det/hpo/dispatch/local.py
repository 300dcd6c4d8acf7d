"""Trainings as processes of this machine, which outlive the driver and are found again.

Each job is its own session.  Its id consists of its PID, its start time and the boot id, so it
cannot be confused with a later process with the same PID.  If a driver was killed between starting
a job and recording its id, the job is found in ``/proc`` by its folder.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import Explanation, Job, JobReport, JobState, Unavailable

KILL_DELAY_S = 30.0
"""Seconds between SIGTERM and SIGKILL, in which a training saves its checkpoint."""


class LocalDispatcher:
    """Starts, watches and ends processes.

    Args:
        config: GPUs and threads of a job.
        script: ``scripts/submit_pbs.sh``.
        clock: Monotonic seconds, for the time between SIGTERM and SIGKILL.
    """

    COMMANDS: ClassVar[tuple[str, ...]] = ("bash",)

    def __init__(
        self, config: DispatcherConfig, script: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not Path("/proc/self/stat").exists():
            raise DispatchError("dispatcher=local needs Linux: it finds its processes in /proc")
        self._config = config
        self._script = script
        self._clock = clock
        self._children: set[int] = set()
        self._alive: set[str] = set()
        self._gpus: dict[str, int | None] = {}
        self._kill_at: dict[str, float] = {}

    def submit(self, job: Job) -> str:
        """Start a process; see :class:`Dispatcher`."""
        log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        gpu = self._free_gpu()
        try:
            pid = os.posix_spawnp(
                "bash",
                self._words(job),
                self._environment(gpu),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(job.log), log, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:  # too many processes or no space for the log: both temporary
            raise Unavailable(f"{job.name} could not be started: {error}") from None
        job_id = _identity(pid) or f"{pid}-0-0"
        self._children.add(pid)
        self._alive.add(job_id)
        self._gpus[job_id] = gpu  # /proc shows it a moment later
        return job_id

    def find(self, job: Job) -> str | None:
        """Look for the process of a job folder; see :class:`Dispatcher`."""
        wanted = os.fsencode(str(job.folder))
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                # A child that its bash has just forked has the same arguments but leads no session.
                leads = os.getsid(pid) == pid
            except OSError:  # it has just ended, or belongs to another user
                continue
            if leads and wanted in words and os.fsencode(str(self._script)) in words:
                return _identity(pid)
        return None

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobReport]:
        """Check which processes exist; see :class:`Dispatcher`."""
        self._children = {pid for pid in self._children if not _reap(pid)}
        now = self._clock()
        reports = {}
        for job_id in ids:
            alive = _is_alive(job_id)
            if alive and now >= self._kill_at.get(job_id, float("inf")):
                _signal_session(job_id, signal.SIGKILL)
            reports[job_id] = JobReport(JobState.RUNNING if alive else JobState.GONE)
        self._alive = {i for i in (*ids, *self._alive) if _is_alive(i)}
        self._gpus = {i: self._gpus.get(i) for i in self._alive}
        return reports

    def cancel(self, ids: Sequence[str]) -> str:
        """Send SIGTERM, and SIGKILL half a minute later; see :class:`Dispatcher`."""
        for job_id in ids:
            if job_id not in self._kill_at:
                self._kill_at[job_id] = self._clock() + KILL_DELAY_S
                _signal_session(job_id, signal.SIGTERM)
        return ""

    def preview(self, job: Job) -> str:
        """Return the command of a job; see :class:`Dispatcher`."""
        return shlex.join(self._words(job))

    def place(self) -> str:
        """Return no name: processes are identified by host and boot. See :class:`Dispatcher`."""
        return ""

    @staticmethod
    def knows(job_id: str | None) -> bool:
        """Return whether it is, or was, a process of this machine; see :class:`Dispatcher`."""
        return job_id is not None and job_id.rpartition("-")[2] == _boot()

    @staticmethod
    def same_job(one: str, other: str) -> bool:
        """Compare ids; see :class:`Dispatcher`."""
        return one == other

    @staticmethod
    def end_by_hand(job_id: str) -> str:
        """Return the kill command of its session; see :class:`Dispatcher`."""
        return f"kill -- -{job_id.split('-')[0]}"

    @staticmethod
    def explain(log: str, comment: str) -> Explanation | None:
        """Return None: the kernel writes nothing to the log of a process that it kills."""
        return None

    def _words(self, job: Job) -> list[str]:
        return ["bash", str(self._script), str(job.folder), "local"]

    def _environment(self, gpu: int | None) -> dict[str, str]:
        environment = dict(os.environ)
        environment["OMP_NUM_THREADS"] = str(self._config.cpus_per_job)
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(gpu)
        return environment

    def _free_gpu(self) -> int | None:
        """Return a GPU that no job of ours uses; None if the settings list none."""
        used = [self._gpu(i) for i in self._alive]
        free = list(self._config.gpus)
        for gpu in used:
            if gpu in free:
                free.remove(gpu)
        return free[0] if free else min(self._config.gpus, key=used.count, default=None)

    def _gpu(self, job_id: str) -> int | None:
        """Return the GPU of an existing job, looked up again until /proc shows it."""
        if self._gpus.get(job_id) is None and self._config.gpus:
            self._gpus[job_id] = _gpu_of(job_id)
        return self._gpus.get(job_id)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def _identity(pid: int) -> str | None:
    """Return PID, start time and boot id of a process that exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = _boot()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may have any characters
    return None if fields[0] in "ZX" else f"{pid}-{fields[19]}-{boot}"


def _reap(pid: int) -> bool:
    """Remove an ended child from the process table, where it would stay as a zombie."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _is_alive(job_id: str) -> bool:
    return _identity(int(job_id.split("-")[0])) == job_id


def _gpu_of(job_id: str) -> int | None:
    try:
        environment = Path(f"/proc/{job_id.split('-')[0]}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for word in environment:
        if word.startswith(b"CUDA_VISIBLE_DEVICES="):
            value = word.partition(b"=")[2]
            return int(value) if value.isdigit() else None
    return None


def _signal_session(job_id: str, number: signal.Signals) -> None:
    if _is_alive(job_id):
        try:
            os.killpg(int(job_id.split("-")[0]), number)
        except ProcessLookupError:
            return  # it has just ended by itself
