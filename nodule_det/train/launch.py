"""``python -m nodule_det.train.launch N ...``: one training by N processes of this machine.

    launch 2 store=... ──▶ train (RANK=0), train (RANK=1) ──exit code of rank 0──▶ the job script

For jobs of the tuning driver, which needs two things that ``torchrun`` does not offer.  Its exit
code is 1 whatever its processes return, and the driver tells a stop, a full disk and a divergence
apart by it.  And it starts each process in a session of its own, where neither a SIGKILL for the
job's process group nor a batch system that ends a session reaches them.  The environment is that of
``torchrun --standalone``; ``CUDA_VISIBLE_DEVICES`` is left as the batch system set it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from nodule_det.cpus import available_cpus
from nodule_det.errors import ExitCode

LAST_WORDS_S = 60.0
"""How long the other processes may take to end once one has: the first still has to write
``result.json``, or to notice that its connection is broken."""

POLL_S = 0.1


def main(words: Sequence[str]) -> int:
    """Run a training and return the exit code of its first process.

    Args:
        words: Number of processes, then the settings of the train command.
    """
    number, *settings = words
    ask = [sys.executable, "-m", "nodule_det.train", *settings]
    # A signal reaches every process of the job, and the trainings save a checkpoint.  This one has
    # to outlive them.
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_, lambda number, frame: None)
    environments = process_environments(int(number), free_port())
    return wait([subprocess.Popen(ask, env=environment) for environment in environments])


def process_environments(n: int, port: int) -> list[dict[str, str]]:
    """Return the environment of each of ``n`` processes that meet at a port."""
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or available_cpus()
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n),
        "LOCAL_WORLD_SIZE": str(n),
        "OMP_NUM_THREADS": str(max(1, threads // n)),
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(n)]


def wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all processes, and kill those that stay once one has ended for a minute.

    Returns:
        Exit code of the first one, 128 + the signal that killed it, as shells say.
    """
    ended_s: float | None = None
    while any(process.poll() is None for process in processes):
        if ended_s is None and any(process.poll() is not None for process in processes):
            ended_s = time.monotonic()
        if ended_s is not None and time.monotonic() > ended_s + LAST_WORDS_S:
            for process in processes:
                process.kill()
        time.sleep(POLL_S)
    code = processes[0].returncode
    if code == ExitCode.COMPLETE:
        code = next((p.returncode for p in processes if p.returncode), code)
    return 128 - code if code < 0 else code


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
