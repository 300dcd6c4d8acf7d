"""One driver per study: the behaviour of its lock beyond that of every lock."""

from __future__ import annotations

import json
import os

import pytest

from nodule_det.errors import BusyError
from nodule_det.hpo.study.lock import StudyLock
from nodule_det.locking import read_holder


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


def test_a_second_driver_is_refused_with_the_holder_of_the_study(tmp_path):
    path = tmp_path / "driver.lock"
    with (
        StudyLock(path),
        pytest.raises(
            BusyError,
            match=rf"already has a driver: held by process {os.getpid()} on \S+, since",
        ),
    ):
        StudyLock(path).__enter__()
    assert not path.exists()


def test_a_stale_lock_from_another_node_is_taken_over(tmp_path):
    path = tmp_path / "driver.lock"
    foreign_lock(path)
    os.utime(path, (path.stat().st_mtime - 1000,) * 2)
    with StudyLock(path) as lock:
        assert lock.took_over.host == "login2"
        lock.beat()
        assert read_holder(path).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_driver_whose_lock_was_taken_over_exits(tmp_path):
    path = tmp_path / "driver.lock"
    with StudyLock(path) as lock:
        foreign_lock(path)
        with pytest.raises(
            BusyError, match=r"taken over by process 7 on login2.*its jobs continue"
        ):
            lock.beat()
    assert read_holder(path).host == "login2"  # not ours to remove
