"""One writer per folder: ingest, a training run, predict and a study's driver, on any file system.

    Lock(path) ──link()──▶ path: host, process, token ──heartbeat──▶ removed at the end

The lock is a file that must not exist yet.  Creating one is exclusive on every file system, also
between the nodes of a cluster.  ``flock`` is not: on Lustre it fails with ENOSYS unless the mount
has the option ``flock``, and with ``localflock`` it locks on one node only.  The file names its
holder, which touches it every ``BEAT_S`` seconds.  An existing lock is taken over if its holder is
known to be gone:

1. The holder ran on this machine and its process has ended.  A later process with the same PID is
   recognised by its start time.  This rule also applies if the machine was rebooted after the last
   heartbeat.
2. The holder had also locked the file with ``flock``, on a mount where that reaches all nodes
   (:func:`flock_reaches_all_hosts`), and that ``flock`` is now free.
3. Nothing has touched the file for ``STALE_S`` seconds, by the clock of the file server.

A live process on this machine keeps its lock however long it is silent, for example when stopped
by a debugger.  Between containers with their own PID namespaces only rules 2 and 3 apply.  A
holder that finds its lock taken over, because it was suspended for longer than ``STALE_S``, must
stop writing: its process exits at once with ``ExitCode.BUSY``, unless it set ``on_lost``.

Locks of earlier versions are recognised: an empty file, or one line ``process N on HOST``, held
by ``flock`` alone.  Such a file is free once its ``flock`` is.  If it names another host, it is
free only after ``STALE_S`` seconds.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from nodule_det.errors import BusyError, ExitCode
from nodule_det.progress import duration
from nodule_det.untrusted import parse_object, printable, read_bytes

BEAT_S = 60.0
"""Seconds between two heartbeats."""
STALE_S = 900.0
"""Silence after which the lock of a holder on another machine is taken over."""

MAX_BYTES = 65_536

NO_FLOCK = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
"""Errors of ``flock`` on file systems that do not support it."""
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of ``link`` on file systems without hard links."""

MOUNTS = Path("/proc/self/mounts")
GLOBAL_FLOCK = {"gpfs", "ceph", "ocfs2", "gfs2"}
"""Cluster file systems whose ``flock`` always reaches all nodes."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock."""

    host: str
    pid: int
    started: str = ""
    """Boot id and start time, which distinguish it from a later process with the same PID."""
    token: str = ""
    since: str = ""
    namespace: str = ""
    """PID namespace: a container may have its own."""
    global_flock: bool = False
    """Whether it also holds a ``flock`` that reaches all hosts."""

    def __str__(self) -> str:
        since = f", since {self.since}" if self.since else ""
        return f"process {self.pid} on {self.host}{since}"

    def as_json(self) -> bytes:
        """Return the content of its lock file."""
        return json.dumps(asdict(self)).encode()

    def is_gone_here(self, touched_s: float) -> bool:
        """Return whether it was a process of this machine that has ended.

        Args:
            touched_s: When the lock file was last touched, in seconds since 1970.
        """
        if not self._is_of_this_host():
            return False
        boot = re.fullmatch(r"([0-9a-f]{8})-\d+", self.started)
        if boot and _boot_id() and boot[1] != _boot_id():
            return touched_s < _boot_time_s()  # else it is another machine with the same name
        return self.started != process_start(self.pid)

    def is_alive_here(self) -> bool:
        """Return whether it is a process of this machine that is running."""
        return self._is_of_this_host() and self.started == process_start(self.pid)

    def _is_of_this_host(self) -> bool:
        return self.host == socket.gethostname() and self.namespace in ("", _namespace())


class Lock:
    """A lock to hold while writing to a folder, as a context manager.

    Args:
        path: The lock file.
        busy: Start of the error message, before ": held by process 7 on host, since ...".
        on_lost: Called by the heartbeat if the lock was taken over.  By default the process exits.
        stale_s: See ``STALE_S``.

    Raises:
        BusyError: On entering, if another process holds it.
        OSError: If the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        busy: str,
        *,
        on_lost: Callable[[], None] | None = None,
        stale_s: float = STALE_S,
    ) -> None:
        self.path = path
        self._busy = busy
        self._on_lost = on_lost or self._leave
        self._stale_s = stale_s
        self._ended = threading.Event()
        self._file: int | None = None
        self._own = Holder(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=process_start(os.getpid()) or "",
            token=secrets.token_hex(8),
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
            namespace=_namespace(),
        )
        self.took_over: Holder | None = None
        """Holder of the stale lock that was removed, if any."""

    def __enter__(self) -> Self:
        for _ in range(5):
            if self._create():
                threading.Thread(target=self._heartbeat, daemon=True).start()
                return self
            content = _content(self.path)
            if content is None or (not content and not self._settled_empty()):
                continue  # it is being created or removed right now
            holder = parse_holder(content)
            if not self._is_stale(holder, content):
                who = holder or f"another process, since {self._since()}"
                raise BusyError(
                    f"{self._busy}: held by {who}; wait for it or stop it, or delete {self.path} "
                    "if that process no longer exists"
                )
            self._remove_stale(content, holder)
        raise BusyError(f"{self.path} is contended by other processes; try again")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self.is_held():
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            os.close(self._file)

    def is_held(self) -> bool:
        """Return whether this object still holds the lock."""
        return read_holder(self.path) == self._own

    def touch(self) -> bool:
        """Show that the holder is alive; False if another process has taken the lock over."""
        if not self.is_held():
            return False
        os.utime(self.path)
        return True

    def _heartbeat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):  # the file server may be unreachable for a moment
                if not self.touch() and not self._ended.is_set():
                    self._on_lost()
                    return

    def _leave(self) -> None:
        print(
            f"error: {self.path} was taken over by {read_holder(self.path) or 'another process'} "
            "because this process was silent for too long; exiting without writing anything more",
            file=sys.stderr,
            flush=True,
        )
        os._exit(ExitCode.BUSY)

    def _create(self) -> bool:
        """Create the file with its content in one step, as a link to a finished draft.

        The draft already has the ``flock``, and the link is the same file.
        """
        draft = self.path.with_name(f".{self.path.name}.{self._own.token}.tmp")
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            reaches = _flock(fd) and flock_reaches_all_hosts(self.path.parent)
            self._own = replace(self._own, global_flock=reaches)
            os.write(fd, self._own.as_json())
            os.fsync(fd)
            if _link(draft, self.path):
                self._file, fd = fd, -1
                return True
            return False
        except FileNotFoundError:
            if not self.path.parent.is_dir():
                raise
            return False  # the holder has removed our draft as a left-over
        except OSError as error:
            if error.errno in NO_LINKS:
                self._own = replace(self._own, global_flock=False)
                return _write_new(self.path, self._own.as_json())
            # such as a full disk: the error of a write does not name the file
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        finally:
            if fd >= 0:
                os.close(fd)
            draft.unlink(missing_ok=True)

    def _settled_empty(self) -> bool:
        time.sleep(0.1)  # without hard links a new lock is empty for a moment
        return _content(self.path) == ""

    def _is_stale(self, holder: Holder | None, content: str) -> bool:
        if not content or (holder is not None and not holder.token):
            return self._is_old_and_free(holder)
        if holder is None:
            return self._silence_s() > self._stale_s
        if holder.is_gone_here(self._touched_s()):
            return True
        if holder.is_alive_here():
            return False
        if holder.global_flock and self._own.global_flock and _is_flock_free(self.path):
            return True
        return self._silence_s() > self._stale_s

    def _is_old_and_free(self, holder: Holder | None) -> bool:
        """Judge the lock of an earlier version, held by ``flock`` alone and never removed."""
        if _is_flock_free(self.path) is False:
            return False
        here = holder is None or holder.host == socket.gethostname()
        return here or self._silence_s() > self._stale_s

    def _touched_s(self) -> float:
        with suppress(FileNotFoundError):
            return self.path.stat().st_mtime
        return time.time()

    def _since(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._touched_s()))

    def _silence_s(self) -> float:
        """Seconds since the file was touched, by the file server's own clock."""
        probe = self.path.with_name(f".{self.path.name}.{self._own.token}.probe.tmp")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove_stale(self, content: str, holder: Holder | None) -> None:
        """Move the file away; if another process was quicker and it is a new one, put it back."""
        aside = self.path.with_name(f".{self.path.name}.{self._own.token}.stale.tmp")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        moved = _content(aside)
        if moved == content:
            self.took_over = holder
        else:
            with suppress(FileExistsError):  # a third process: the holder will notice and exit
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)


def read_holder(path: Path) -> Holder | None:
    """Read the holder of a lock; None if the lock is free or the file is damaged."""
    content = _content(path)
    return None if content is None else parse_holder(content)


def parse_holder(content: str) -> Holder | None:
    """Read the content of a lock file of this or an earlier version; None if it is neither."""
    if old := re.fullmatch(r"process (\d{1,9}) on (\S{1,255})\n?", content):
        return Holder(printable(old[2]), int(old[1]))
    try:
        values = parse_object(content)
        holder = Holder(**{f.name: values[f.name] for f in fields(Holder) if f.name in values})
    except (ValueError, TypeError):
        return None  # not written by this package: stale only after STALE_S
    texts = (holder.host, holder.started, holder.token, holder.since, holder.namespace)
    whole = all(isinstance(text, str) and text == printable(text) for text in texts)
    number = isinstance(holder.pid, int) and 0 < holder.pid < 2**31
    return holder if whole and number and isinstance(holder.global_flock, bool) else None


def why_gone(path: Path) -> tuple[Holder | None, str]:
    """Read the holder of a lock, and why it seems to be gone; "" if it seems to be alive.

    Changes nothing: the holder may belong to another user.
    """
    holder = read_holder(path)
    try:
        touched_s = path.stat().st_mtime
    except OSError:  # the lock is free or damaged
        return None, ""
    if holder is not None and holder.is_gone_here(touched_s):
        return holder, "which is gone"
    silence_s = time.time() - touched_s
    if holder is not None and silence_s > STALE_S:
        return holder, f"silent for {duration(silence_s)}"
    return holder, ""


def process_start(pid: int) -> str | None:
    """Return what distinguishes a process from a later one with its PID; None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _start_without_proc(pid)
    values = stat.rpartition(")")[2].split()
    return None if values[0] in "ZX" else f"{_boot_id()}-{values[19]}"


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


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def _boot_time_s() -> float:
    with suppress(OSError):
        for line in Path("/proc/stat").read_text().splitlines():
            if line.startswith("btime "):
                return float(line.split()[1])
    return 0.0


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def flock_reaches_all_hosts(folder: Path) -> bool:
    """Return whether all nodes see a ``flock`` on a file in this folder, from the mount options.

    On Lustre they do if it is mounted with ``flock``, on NFS unless it is mounted with ``nolock``
    or ``local_lock``, on GPFS and CephFS always.  False if unknown, and for local disks.
    """
    try:
        mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
        where = str(folder.resolve())
    except OSError:
        return False
    best = ("", "", "")
    for _, point, kind, options, *_ in mounts:
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
        if Path(where).is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind, options)
    _, kind, text = best
    chosen = text.split(",")
    if kind == "lustre":
        return "flock" in chosen
    if kind in ("nfs", "nfs4"):
        local = {"nolock", "local_lock=all", "local_lock=flock"}
        return not local & set(chosen)
    return kind in GLOBAL_FLOCK


def _flock(fd: int) -> bool:
    """Lock an open file with ``flock``; False where that is not supported."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_flock_free(path: Path) -> bool | None:
    """Return whether the ``flock`` of a file is free; None where that is not supported."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return None
    else:
        return True
    finally:
        os.close(fd)


def _link(draft: Path, path: Path) -> bool:
    try:
        os.link(draft, path)
    except FileExistsError:
        return draft.stat().st_nlink == 2  # NFS may report an error although it made the link
    return True


def _write_new(path: Path, content: bytes) -> bool:
    """Create a file where hard links are not possible; False if it exists."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def _content(path: Path) -> str | None:
    """Read a lock file; None if it does not exist."""
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except ValueError:  # a folder, a FIFO: damaged
        return "?"
