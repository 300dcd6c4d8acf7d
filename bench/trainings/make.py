"""Make a table of short real trainings over eleven hyper-parameters, to rank tuning methods on.

    python bench/trainings/make.py OUT [--trainings 320] [--workers 1]

    pieces of lung ──scans──▶ OUT/store ──train, for each of points()──▶ OUT/table.jsonl

The command may be interrupted or killed, and run again: it continues after the last finished
training.  Each training is the ordinary ``train`` command, run in a child that is forked from a
process which has already loaded torch.  A child that crashes costs only its own row.  A training
takes about 15 s of one core, and at most ``MEMORY_MIB`` and ``CPU_S``: more is a failure, as in a
job with such limits.

Each line is a JSON object.  The first one of a session says where its trainings were made.  The
others are trainings:

    number, kind          of the point; a ``repeat`` has the settings of number - 7, another seed
    params, seed          what was trained
    outcome               complete, or the reason for the failure
    value, se             pAUC of the best validation and its standard error
    curve                 [epoch, pAUC, standard error] of each validation
    scans                 of each validation scan: lesions, scores of the found ones, scores of the
                          false positives, both in 1/1000
    seconds, cpu_s        wall-clock and CPU time of the process, including the loading of its scans
    peak_mib              largest resident memory
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import qmc

from nodule_det.errors import ExitCode
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.space.space import Params, Space
from nodule_det.runs import RunFolder

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.trainings.scans import write_store
from bench.trainings.surrogate import read_rows

SPACE = Path(__file__).with_name("space.yaml")
N_SCANS = 72
"""A third of them is validated on."""
TRAINING = (
    "device=cpu",
    "patches.per_epoch=64",
    "limits.epochs=8",
    "validation.every_epochs=2",
    "validation.bootstrap=200",
    "candidates.region_share=1",
    "candidates.max_per_scan=50",
    "feed.threads=1",
)
"""Short enough to run many, long enough to distinguish good settings from bad ones.  Regions are
not measured: those of a network that has hardly learned anything take longer than its training."""
QUICK = ("limits.epochs=1", "patches.per_epoch=16")
MEMORY_MIB = 1024
"""Data of a training's process above that of the process it is forked from."""
CPU_S = 180
SEED = 20261129
BLOCK = ("sobol",) * 5 + ("random",) * 2 + ("repeat",)
"""Kinds of eight consecutive points.  A repeat has the settings of the first of its block."""
FP_PER_SCAN = 10
"""False positives that are kept: this many per scan on average, twice what the pAUC reads."""


@dataclass(frozen=True)
class Point:
    """One training to make."""

    number: int
    kind: str
    params: Params
    seed: int


def points(space: Space, n: int) -> list[Point]:
    """Return the first n points, the same for every n: five Sobol, two random, one repeat."""
    sobol = iter(qmc.Sobol(space.dimension, rng=SEED).random(2 ** (n + 7).bit_length()))
    rng = np.random.default_rng(SEED)
    made: list[Point] = []
    for number in range(n):
        kind = BLOCK[number % len(BLOCK)]
        if kind == "repeat":
            params = made[number - number % len(BLOCK)].params
        else:
            unit = next(sobol) if kind == "sobol" else rng.random(space.dimension)
            params = space.from_unit(unit)
        made.append(Point(number, kind, params, seed=number))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--trainings", type=int, default=320)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="trainings of a second, to try it")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded
    out = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{out} is in use by another process") from None
        if not (out / "store").exists():
            write_store(out / "store", 6 if args.quick else N_SCANS)
        make(out, points(read_space(str(SPACE)), args.trainings), args.workers, args.quick)


def make(out: Path, wanted: list[Point], workers: int, quick: bool = False) -> None:
    """Make the trainings that the table lacks, some of them at once."""
    table = out / "table.jsonl"
    drop_torn_line(table)
    done = {row["number"] for row in read_rows(table)}
    missing = iter([point for point in wanted if point.number not in done])
    import torch._dynamo  # noqa: F401  loaded once, for all children

    import nodule_det.train.run  # noqa: F401

    append(table, session())
    running: dict[int, tuple[Point, float]] = {}
    while True:
        while len(running) < workers and (point := next(missing, None)):
            running[start(point, out, QUICK if quick else ())] = (point, time.monotonic())
        if not running:
            return
        pid, status, usage = os.wait3(0)
        point, began_s = running.pop(pid)
        row = {
            **asdict(point),
            **outcome(run_dir(out, point), os.waitstatus_to_exitcode(status)),
            "seconds": round(time.monotonic() - began_s, 2),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_mib": usage.ru_maxrss // 1024,
        }
        append(table, row)
        shutil.rmtree(run_dir(out, point))
        value = "" if row["value"] is None else f" {row['value']:.3f}"
        print(
            f"{point.number} {point.kind} {row['outcome']}{value}, {row['cpu_s']} CPU s", flush=True
        )


def run_dir(out: Path, point: Point) -> Path:
    """Return the folder of a training, which exists while it runs."""
    return out / "runs" / f"{point.number:04}"


def start(point: Point, out: Path, more: tuple[str, ...] = ()) -> int:
    """Fork the process of a training with more overrides; returns its id."""
    path = run_dir(out, point)
    shutil.rmtree(path, ignore_errors=True)  # of a killed command
    path.mkdir(parents=True)
    words = [f"{name}={value}" for name, value in point.params.items()]
    places = (f"store={out / 'store'}", f"run_dir={path}", f"seed={point.seed}")
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            train([*places, *TRAINING, *words, *more], parent, path / "output.txt")
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    return pid


def train(words: list[str], parent: int, output: Path) -> None:
    """Run the ``train`` command in this process, without its figures; ends with SystemExit."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: never outlive the parent
    if os.getppid() != parent:
        return
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    limit = data_bytes() + MEMORY_MIB * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    sys.argv = ["train", *words]
    from nodule_det.train.__main__ import main as train_command

    with (
        patch("nodule_det.train.publish.save_curve"),
        patch("nodule_det.train.publish.save_findings"),
        patch("nodule_det.train.loop.save_training"),
    ):
        train_command()


def data_bytes() -> int:
    """Return the size of this process's data, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no VmData: this command needs Linux")


def outcome(path: Path, code: int) -> dict[str, Any]:
    """Return what a training came to, from its folder and exit code."""
    folder = RunFolder(path)
    result: dict[str, Any] = {}
    with suppress(FileNotFoundError):
        result = json.loads(folder.result.read_text())
    row: dict[str, Any] = {"outcome": "complete", "value": None, "se": None}
    if code != ExitCode.COMPLETE:
        known = code in set(ExitCode)
        row["outcome"] = (
            ExitCode(code).reason if known else f"signal_{-code}" if code < 0 else "error"
        )
        row["message"] = str(result.get("message") or (path / "output.txt").read_text()[-300:])
        row["message"] = row["message"].replace(str(path), "RUN")[:300]
    curve = validations(folder)
    row["curve"] = curve
    if code == ExitCode.COMPLETE:
        row |= {"value": result["pauc"], "se": result["pauc_se"], "scans": scans(folder)}
        row["n_parameters"] = result["n_parameters"]
    return row


def validations(folder: RunFolder) -> list[list[float]]:
    """Return [epoch, pAUC, standard error] of each validation."""
    with suppress(FileNotFoundError):
        rows = map(json.loads, folder.metrics.read_text().splitlines())
        return [
            [r["epoch"], round(r["pauc"], 4), round(r["pauc_se"], 4)]
            for r in rows
            if r["kind"] == "validation" and r["pauc"] is not None
        ]
    return []


def scans(folder: RunFolder) -> list[list[Any]]:
    """Return lesions, scores of the found ones and of the false positives of each scan."""
    from nodule_det.evaluate.api import evaluate

    matched = evaluate(
        folder.candidates, folder.annotations, scans=folder.scans, excluded=folder.excluded,
        bootstrap=100,
    ).matched  # fmt: skip
    n = len(matched.cases)
    kept = np.argsort(-matched.fp_score, kind="stable")[: FP_PER_SCAN * n]
    found = matched.lesion_row >= 0

    def scores(values: Any) -> list[int]:
        return sorted(np.rint(1000 * values).astype(int).tolist(), reverse=True)

    return [
        [
            int((matched.lesion_case == i).sum()),
            scores(matched.lesion_score[(matched.lesion_case == i) & found]),
            scores(matched.fp_score[kept][matched.fp_case[kept] == i]),
        ]
        for i in range(n)
    ]


def session() -> dict[str, Any]:
    """Say where and how the trainings of this session are made."""
    import torch

    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
    ).stdout.strip()
    about = Path("/proc/cpuinfo").read_text()
    cpu = about.partition("model name")[2].partition("\n")[0].strip(" :\t")
    return {
        "session": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "command": " ".join(["python bench/trainings/make.py OUT", *sys.argv[2:]]),
        "machine": f"{os.cpu_count()} cores, {cpu}, one thread per training",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "n_scans": N_SCANS,
        "training": TRAINING,
        "memory_mib": MEMORY_MIB,
    }


def append(table: Path, row: dict[str, Any]) -> None:
    """Append a line with one write, and wait until it is on disk."""
    line = json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"
    file = os.open(table, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def drop_torn_line(table: Path) -> None:
    """Remove the rest of a line whose writing was cut short."""
    if table.exists():
        content = table.read_bytes()
        os.truncate(table, content.rfind(b"\n") + 1)


if __name__ == "__main__":
    main()
