"""Processes that are really killed, and parents that really die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from nodule_det.data.ingest.workers import Apart, Crew, Died, spread, why_died


def square(n):
    return n * n


def square_or_die(n):
    if n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n * n


def square_or_leave(n):
    if n == 3:
        raise SystemExit(7)
    return n * n


def write_pid_and_wait(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(ready, seconds=20.0):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_item_is_done_once(workers):
    assert sorted(spread(square, [3, 1, 2, 4], Crew(workers))) == [(1, 1), (2, 4), (3, 9), (4, 16)]


def test_nothing_to_do_starts_nothing():
    assert list(spread(square, [], Crew(2))) == []


@pytest.mark.parametrize(("task", "code"), [(square_or_die, -9), (square_or_leave, 7)])
def test_a_worker_that_dies_takes_one_item_with_it(task, code):
    done = dict(spread(task, [1, 2, 3, 4, 5, 6], Crew(2)))
    assert done == {1: 1, 2: 4, 3: Died(code), 4: 16, 5: 25, 6: 36}


def square_or_hang(n):
    if n == 3:
        signal.pause()
    return n * n


def test_a_worker_that_hangs_loses_one_item():
    # each worker starts Python within its first item, hence seconds
    done = dict(spread(square_or_hang, [3, 1, 2], Crew(2, timeout_s=10.0)))
    assert done == {1: 1, 2: 4, 3: Died(-9, 10.0)}
    assert "took longer than scan_timeout_s=10;" in why_died(done[3])


def test_an_item_that_hangs_apart_is_killed_and_the_next_one_is_done():
    apart = Apart(square_or_hang, Crew(timeout_s=10.0))
    assert apart(2) == 4
    assert apart(3) == Died(-9, 10.0)
    assert apart(4) == 16


def say_and_leave(word):
    print(word, file=sys.stderr)
    print(word, flush=True)
    raise ValueError(word)


@pytest.mark.parametrize("silent", [False, True])
def test_a_silent_worker_prints_nothing(silent, capfd):
    done = list(spread(say_and_leave, ["Smith"], Crew(silent=silent)))
    assert done == [("Smith", Died(1))]
    said = "".join(capfd.readouterr())
    assert ("Smith" in said) is not silent


def test_closing_the_results_ends_the_workers(tmp_path):
    with closing(spread(write_pid_and_wait, [str(tmp_path / "a")], Crew(1))) as results:
        # The result never comes; the alarm stands for Ctrl-C.
        before = signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, 3.0)
        try:
            with pytest.raises(KeyboardInterrupt):
                next(results)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    pid = int((tmp_path / "a").read_text())
    assert not is_alive(pid)


def _interrupt(*_):
    raise KeyboardInterrupt


PARENT = """
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from nodule_det.data.ingest.workers import Crew, spread
import test_workers
if __name__ == "__main__":
    for _ in spread(test_workers.write_pid_and_nap, [{folder!r} + "/a"], Crew(1)):
        pass
"""


def write_pid_and_nap(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(1)


def test_a_worker_whose_parent_was_killed_leaves_after_its_item(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text())
    parent.kill()
    errors = parent.communicate(timeout=20)[1]
    until(lambda: not is_alive(int((tmp_path / "a").read_text())))
    assert b"Traceback" not in errors


INTERRUPTED = """
import sys
sys.path.insert(0, {here!r})
from nodule_det.data.ingest.workers import Crew, spread
import test_workers
if __name__ == "__main__":
    print([deaf for _, deaf in spread(test_workers.is_deaf_to_ctrl_c, [1, 2, 3, 4], Crew(2))])
"""


def is_deaf_to_ctrl_c(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_no_worker_hears_ctrl_c_not_even_the_first(tmp_path):
    """The first process of an interpreter also starts Python's resource tracker."""
    script = tmp_path / "parent.py"
    script.write_text(INTERRUPTED.format(here=str(Path(__file__).parent)))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[True, True, True, True]\n"
