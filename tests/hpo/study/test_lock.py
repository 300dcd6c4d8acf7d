import contextlib
import json
import os
import subprocess
import sys

import pytest

from nodule_det.errors import StudyError
from nodule_det.hpo.study.lock import StudyLock, read_holder, who_drives


def foreign_lock(path, **changes):
    """Write the lock of a driver on another login node."""
    holder = {
        "host": "login2",
        "pid": 7,
        "started": "x",
        "token": "t",
        "since": "2026-11-01 09:00:00",
    }
    path.write_text(json.dumps(holder | changes))


def test_a_disk_without_room_for_the_lock_is_named_and_nothing_is_left(small_disk):
    path = small_disk("40k") / "driver.lock"
    with open(path.with_name("filler"), "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(b"x" * 4096)
    with pytest.raises(OSError, match="No space left on device") as caught, StudyLock(path):
        pass
    assert caught.value.filename == str(path)
    assert [p.name for p in path.parent.iterdir()] == ["filler"]


def test_a_second_driver_is_refused_and_told_who_holds_the_study(tmp_path):
    path = tmp_path / "driver.lock"
    with StudyLock(path), pytest.raises(StudyError, match=rf"process {os.getpid()} on \S+, since"):
        StudyLock(path).__enter__()
    assert not path.exists()


def test_a_driver_on_another_node_holds_the_study_while_it_beats(tmp_path):
    path = tmp_path / "driver.lock"
    foreign_lock(path)
    with pytest.raises(StudyError, match="held by process 7 on login2, since 2026-11-01"):
        StudyLock(path).__enter__()


def test_a_silent_lock_of_another_node_is_taken_over(tmp_path):
    path = tmp_path / "driver.lock"
    foreign_lock(path)
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    with StudyLock(path) as lock:
        assert lock.took_over.host == "login2"
        lock.beat()
        assert read_holder(path).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_of_this_host_is_stale_at_once(tmp_path):
    path = tmp_path / "driver.lock"
    code = (
        "import os, sys; from pathlib import Path; "
        "from nodule_det.hpo.study.lock import StudyLock; "
        "StudyLock(Path(sys.argv[1])).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    dead = read_holder(path)
    with StudyLock(path) as lock:
        assert lock.took_over == dead


def test_a_later_process_of_the_same_number_is_not_the_holder(tmp_path):
    path = tmp_path / "driver.lock"
    with StudyLock(path):
        holder = json.loads(path.read_text())
        path.write_text(json.dumps(holder | {"started": "another-boot"}))
        with StudyLock(path) as lock:
            assert lock.took_over.pid == os.getpid()


def test_a_driver_whose_lock_was_taken_over_leaves(tmp_path):
    path = tmp_path / "driver.lock"
    with StudyLock(path) as lock:
        foreign_lock(path)
        with pytest.raises(StudyError, match=r"taken over by process 7 on login2.*its jobs go on"):
            lock.beat()
    assert read_holder(path).host == "login2"  # not ours to remove


def test_a_driver_that_was_silent_for_days_is_told_so_from_another_login_node(tmp_path):
    path = tmp_path / "driver.lock"
    assert who_drives(path) == (None, "")
    foreign_lock(path)
    assert who_drives(path)[1] == ""
    os.utime(path, (path.stat().st_mtime - 3 * 86400,) * 2)
    holder, gone = who_drives(path)
    assert (holder.host, gone) == ("login2", "silent for 72:00:00")


def test_a_damaged_lock_is_stale_by_age_alone(tmp_path):
    path = tmp_path / "driver.lock"
    path.write_text("{")
    with pytest.raises(StudyError, match="changes hands all the time"):
        StudyLock(path).__enter__()
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    with StudyLock(path):
        assert read_holder(path).pid == os.getpid()
