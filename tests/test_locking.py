"""One writer per folder: real processes, real kills, other hosts, no flock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from nodule_det import locking
from nodule_det.errors import BusyError, ExitCode
from nodule_det.locking import STALE_S, Lock, flock_reaches_all_hosts, read_holder, why_gone

HOLD = """
import os, socket, sys
from pathlib import Path
from nodule_det import locking
host, beat_s, flock_is_global = sys.argv[2], float(sys.argv[3]), sys.argv[4] == "global"
if host:
    socket.gethostname = lambda: host
if flock_is_global:
    locking.flock_reaches_all_hosts = lambda folder: True
locking.BEAT_S = beat_s
with locking.Lock(Path(sys.argv[1]), "the folder is in use"):
    print("held", flush=True)
    sys.stdin.read()
print("left", flush=True)
"""


@contextlib.contextmanager
def holding(path, host="", beat_s=60.0, flock=""):
    """Run a process that holds a lock until its input is closed or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), host, str(beat_s), flock],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n", process.stderr.read()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def take(path):
    return Lock(path, "the folder is in use")


def refused(path, match):
    with pytest.raises(BusyError, match=match) as caught:
        take(path).__enter__()
    assert caught.value.exit_code == ExitCode.BUSY == 89
    assert str(path) in str(caught.value)


def silence(path, seconds):
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture(params=["", errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def any_file_system(request, monkeypatch):
    """Run a test with flock, and on file systems that answer that they have none."""
    if request.param:

        def flock(fd, operation):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("any_file_system")
def test_a_held_lock_is_refused_with_its_holder(tmp_path):
    path = tmp_path / ".lock"
    with holding(path) as process:
        refused(path, rf"the folder is in use: held by process {process.pid} on \S+, since 2")
        process.communicate()
    assert list(tmp_path.iterdir()) == []
    with take(path) as lock:
        assert lock.took_over is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("any_file_system")
def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path):
    path = tmp_path / ".lock"
    with holding(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert why_gone(path)[1] == "which is gone"
        with take(path) as lock:
            assert lock.took_over.pid == process.pid
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_process_keeps_its_lock_indefinitely(tmp_path):
    path = tmp_path / ".lock"
    with holding(path) as process:
        process.send_signal(signal.SIGSTOP)
        silence(path, 10 * STALE_S)
        refused(path, "the folder is in use")


@pytest.mark.usefixtures("any_file_system")
def test_a_killed_holder_on_another_host_keeps_its_lock_until_it_is_stale(tmp_path):
    path = tmp_path / ".lock"
    with holding(path, host="node7") as process:
        process.kill()
        process.wait()
        silence(path, STALE_S - 60)
        refused(path, "on node7")
        silence(path, 120)
        with take(path) as lock:
            assert lock.took_over.host == "node7"


def test_if_flock_reaches_all_hosts_a_killed_holder_elsewhere_is_noticed_at_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(locking, "flock_reaches_all_hosts", lambda folder: True)
    path = tmp_path / ".lock"
    with holding(path, host="node7", flock="global") as process:
        refused(path, "on node7")
        process.kill()
        process.wait()
        with take(path) as lock:
            assert lock.took_over.host == "node7"


def test_a_free_flock_proves_nothing_if_it_only_works_on_one_node(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    with holding(path, host="node7") as process:
        process.kill()
        process.wait()
        monkeypatch.setattr(locking, "flock_reaches_all_hosts", lambda folder: True)
        refused(path, "on node7")  # its mount was localflock


@pytest.mark.parametrize(
    ("kind", "options", "reaches"),
    [
        ("lustre", "rw,flock,lazystatfs", True),
        ("lustre", "rw,localflock", False),
        ("lustre", "rw,noflock", False),
        ("lustre", "rw", False),
        ("nfs4", "rw,vers=4.2,local_lock=none", True),
        ("nfs", "rw,vers=3,nolock,local_lock=all", False),
        ("nfs", "rw,vers=3,local_lock=flock", False),
        ("gpfs", "rw", True),
        ("ceph", "rw", True),
        ("ext4", "rw", False),
        ("tmpfs", "rw", False),
    ],
)
def test_the_mount_says_whether_flock_reaches_all_hosts(
    tmp_path, monkeypatch, kind, options, reaches
):
    folder = tmp_path / "my scans"
    folder.mkdir()
    mounts = tmp_path / "mounts"
    point = str(folder).replace(" ", r"\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {point} {kind} {options} 0 0\n")
    monkeypatch.setattr(locking, "MOUNTS", mounts)
    assert flock_reaches_all_hosts(folder) == reaches
    assert not flock_reaches_all_hosts(tmp_path)


def test_a_holder_that_lost_its_lock_exits_before_it_writes_again(tmp_path):
    path = tmp_path / ".lock"
    with holding(path, host="node7", beat_s=0.05) as process:
        rewrite(path, host="node8", pid=7, token="another")
        assert process.wait(timeout=60) == ExitCode.BUSY
        said = process.stderr.read()
        assert said.count("\n") == 1
        assert "was taken over by process 7 on node8" in said
    assert read_holder(path).host == "node8"  # not its own to remove


def test_the_heartbeat_keeps_a_lock_alive(tmp_path):
    path = tmp_path / ".lock"
    with holding(path, host="node7", beat_s=0.02):
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.01)
        refused(path, "on node7")


def test_a_later_process_with_the_same_pid_is_not_the_holder(tmp_path):
    path = tmp_path / ".lock"
    with take(path):
        holder = json.loads(path.read_text())
        boot = holder["started"].partition("-")[0]
        rewrite(path, started=f"{boot}-1")
        with take(path) as lock:
            assert lock.took_over.pid == os.getpid()


def test_a_lock_from_before_a_reboot_is_stale_but_not_one_of_a_host_with_the_same_name(tmp_path):
    path = tmp_path / ".lock"
    with take(path):
        rewrite(path, started="0badb007-1")
        refused(path, socket.gethostname())  # touched since we booted: another "localhost"
        os.utime(path, (locking._boot_time_s() - 60,) * 2)
        with take(path) as lock:
            assert lock.took_over.started == "0badb007-1"


def test_a_pid_from_another_container_proves_nothing(tmp_path):
    path = tmp_path / ".lock"
    with take(path):
        rewrite(path, namespace="pid:[1]", pid=2**22 + 1)
        refused(path, socket.gethostname())
        silence(path, STALE_S + 1)
        with take(path) as lock:
            assert lock.took_over.pid == 2**22 + 1


@pytest.mark.parametrize("content", ["", "process 4194305 on {host}\n"])
def test_a_lock_of_an_earlier_version_is_held_by_flock_alone(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content.format(host=socket.gethostname()))
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(path, "the folder is in use")
        silence(path, 10 * STALE_S)
        refused(path, "the folder is in use")
    with take(path):
        assert read_holder(path).pid == os.getpid()


def test_an_earlier_versions_lock_from_another_host_is_free_once_it_is_stale(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("process 7 on node7\n")
    refused(path, "held by process 7 on node7;")
    silence(path, STALE_S + 1)
    with take(path) as lock:
        assert lock.took_over.host == "node7"


def test_the_lock_of_an_earlier_driver_is_read(tmp_path):
    path = tmp_path / "driver.lock"
    old = {"host": "login2", "pid": 7, "started": "x", "token": "t", "since": "2026-11-01 09:00:00"}
    path.write_text(json.dumps(old))
    refused(path, "held by process 7 on login2, since 2026-11-01")


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "null", '{"host": 3, "pid": "x"}', "\0" * 40, "[" * 9999, '{"host": "a"}'],
)
def test_a_damaged_lock_is_stale_only_by_age(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content)
    refused(path, "held by another process, since 2")
    silence(path, STALE_S + 1)
    with take(path):
        assert read_holder(path).pid == os.getpid()


def test_only_one_of_many_processes_holds_the_lock_at_a_time(tmp_path):
    """Each adds one to a number while it holds the lock: a lost update would show."""
    path, number = tmp_path / ".lock", tmp_path / "number"
    number.write_text("0")
    code = (
        "import sys, time; from pathlib import Path; from nodule_det import locking\n"
        "from nodule_det.errors import BusyError\n"
        "path, number = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "done = 0\n"
        "while done < 25:\n"
        "    try:\n"
        "        with locking.Lock(path, 'busy'):\n"
        "            n = int(number.read_text()); time.sleep(0.0005)\n"
        "            number.write_text(str(n + 1)); done += 1\n"
        "    except BusyError:\n"
        "        time.sleep(0.001)\n"
    )
    crew = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)]) for _ in range(4)
    ]
    assert [process.wait(timeout=120) for process in crew] == [0] * 4
    assert number.read_text() == "100"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["number"]


def test_a_file_system_without_hard_links_works(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / ".lock"
    with take(path):
        assert read_holder(path).pid == os.getpid()
        refused(path, rf"held by process {os.getpid()}")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_and_leaves_no_lock(small_disk):
    path = small_disk("40k") / ".lock"
    with open(path.with_name("filler"), "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 4096)
    with pytest.raises(OSError, match="No space left on device") as caught, take(path):
        pass
    assert caught.value.filename == str(path)
    assert [p.name for p in path.parent.iterdir()] == ["filler"]


def test_a_holder_elsewhere_that_is_silent_for_days_seems_gone(tmp_path):
    path = tmp_path / ".lock"
    assert why_gone(path) == (None, "")
    with holding(path, host="login2"):
        assert why_gone(path)[1] == ""
        silence(path, 3 * 86400)
        holder, gone = why_gone(path)
        assert (holder.host, gone) == ("login2", "silent for 72:00:00")
