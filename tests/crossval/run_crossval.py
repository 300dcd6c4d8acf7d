"""Cross-validations of a few seconds, started as by a user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.train.tiny_run import WORDS

FAST = ("dispatcher.poll_s=0.05", "dispatcher.grace_s=1", "train.limits.epochs=2", "bootstrap=50")


def crossval_words(store: Path, out: Path, *words: str) -> list[str]:
    """Return the command line of a cross-validation of seconds."""
    train = [f"train.{word}" for word in (f"store={store}", *WORDS)]
    command = [sys.executable, "-m", "nodule_det.crossval", f"out={out}"]
    return [*command, *FAST, *train, *words]


def crossval(store: Path, out: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        crossval_words(store, out, *words),
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def kill_when(store: Path, out: Path, ready, *words: str) -> None:
    """Start a cross-validation and SIGKILL it as soon as ``ready()`` holds."""
    process = subprocess.Popen(
        crossval_words(store, out, *words),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        while not ready():
            assert process.poll() is None, "the command ended before it could be killed"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
