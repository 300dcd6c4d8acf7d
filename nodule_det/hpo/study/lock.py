"""One driver per study, also where two login nodes share the file system.

    O_EXCL file ──holder's host, process, token──▶ beat() at every step ──▶ removed at the end

``flock`` may hold on one node only (Lustre, NFS), making a file that must not exist holds on all.
A lock is stale if its process is gone (same host), or if nobody has touched it for a long time by
the clock of the file server, which all nodes share.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType

from nodule_det.errors import StudyError
from nodule_det.progress import duration
from nodule_det.untrusted import printable, read_object

MAX_BYTES = 65_536
STALE_S = 900.0
"""Silence of a holder on another host after which its lock is taken over; it beats every poll."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    started: str
    """Start time of the process, so that a later process of its number is not taken for it."""
    token: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_dead_here(self) -> bool:
        """Whether it was a process of this host that is gone."""
        return self.host == socket.gethostname() and self.started != _process_start(self.pid)


class StudyLock:
    """Hold it while writing to a study.

    Args:
        path: The lock file.
        stale_s: See :data:`STALE_S`.

    Raises:
        StudyError: On entering, if somebody else holds it.
    """

    def __init__(self, path: Path, stale_s: float = STALE_S) -> None:
        self._path = path
        self._stale_s = stale_s
        self._own = Holder(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=_process_start(os.getpid()) or "",
            token=secrets.token_hex(8),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
        )
        self.took_over: Holder | None = None
        """Whose stale lock was removed."""

    def __enter__(self) -> StudyLock:
        for _ in range(3):
            if self._create():
                return self
            holder = read_holder(self._path)
            if holder is None and self._silence_s() < self._stale_s:
                time.sleep(0.1)  # it was made this moment, or is being removed
                continue
            if holder is not None and not self._is_stale(holder):
                raise StudyError(
                    f"{self._path} is held by {holder}: a study has one driver at a time.  Stop "
                    "that one by Ctrl-C, or remove the file if you are sure that it is gone"
                )
            self._remove_stale(holder)
        raise StudyError(f"{self._path} changes hands all the time; try again")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if read_holder(self._path) == self._own:
            self._path.unlink(missing_ok=True)

    def beat(self) -> None:
        """Say that the holder is alive.

        Raises:
            StudyError: If somebody has taken the lock over; nothing may be written any more.
        """
        holder = read_holder(self._path)
        if holder != self._own:
            raise StudyError(
                f"{self._path} was taken over by {holder or 'somebody who removed it'}; "
                "this driver leaves, its jobs go on"
            )
        os.utime(self._path)

    def _create(self) -> bool:
        """Make the file with its content in one step: a link to a finished file."""
        draft = self._path.with_name(f".{self._path.name}.{self._own.token}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, json.dumps(asdict(self._own)).encode())
            os.fsync(fd)
            os.link(draft, self._path)
        except FileExistsError:
            return False
        except OSError as error:  # a full disk, say; the write itself names no file
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        finally:
            os.close(fd)
            draft.unlink()
        return True

    def _is_stale(self, holder: Holder) -> bool:
        if holder.host == socket.gethostname():
            return holder.is_dead_here()
        return self._silence_s() > self._stale_s

    def _silence_s(self) -> float:
        """Seconds since the file was touched, by the file server's own clock."""
        probe = self._path.with_name(f".{self._path.name}.{self._own.token}.probe")
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove_stale(self, holder: Holder | None) -> None:
        """Move the file away; if another driver was quicker and it is a new one, put it back."""
        aside = self._path.with_name(f".{self._path.name}.{self._own.token}.stale")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            return
        moved = read_holder(aside)
        if moved != holder:
            os.link(aside, self._path)
        else:
            self.took_over = holder
        aside.unlink()


def read_holder(path: Path) -> Holder | None:
    """Read who holds a lock; None if nobody does."""
    try:
        content = read_object(path, MAX_BYTES)
    except (FileNotFoundError, ValueError):
        return None  # of no driver, or not one of ours, which only its age makes stale
    names = {f.name for f in fields(Holder)}
    pid, texts = content.get("pid"), {k: v for k, v in content.items() if k != "pid"}
    if content.keys() != names or not isinstance(pid, int) or not 0 < pid < 1 << 40:
        return None
    if not all(isinstance(v, str) and v == printable(v) for v in texts.values()):
        return None
    return Holder(pid=pid, **texts)


def who_drives(path: Path) -> tuple[Holder | None, str]:
    """Read who holds a lock, and by what that one is taken for gone; an empty word if it lives."""
    holder = read_holder(path)
    try:
        silence_s = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None, ""
    if holder is not None and holder.is_dead_here():
        return holder, "which is gone"
    if holder is not None and silence_s > STALE_S:
        return holder, f"silent for {duration(silence_s)}"
    return holder, ""


def _process_start(pid: int) -> str | None:
    """Return what tells a process from a later one of the same number; None if it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _start_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}-{fields[19]}"


def _start_without_proc(pid: int) -> str | None:
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
