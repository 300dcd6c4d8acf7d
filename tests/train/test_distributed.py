"""Two processes on one node, with gloo: they share batches, agree, and write one run folder."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_det.config.train import LimitConfig
from nodule_det.errors import ExitCode
from nodule_det.files import read_jsonl
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train.distributed import World
from nodule_det.train.run import run
from tests.conftest import REPOSITORY
from tests.train.tiny_run import ended, signal_once, start, tiny, wait_for

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module", autouse=True)
def folder_for_torchrun(tmp_path_factory):
    """Let torchrun write its logs, which it never deletes, to a folder that pytest removes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("torchrun")))
        yield


@pytest.fixture(scope="module")
def shared_by_two(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks") / "shared.json"
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "tests.train.two_ranks", store, out],
        capture_output=True, text=True, timeout=120, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_two_halves_of_a_batch_give_the_gradient_of_the_whole(shared_by_two):
    first, second = shared_by_two["gradients"]
    assert first == second
    np.testing.assert_allclose(first, shared_by_two["whole"], rtol=1e-4, atol=1e-9)


def test_gradients_of_channels_last_weights_reach_ddp_in_the_layout_of_their_weights(shared_by_two):
    assert shared_by_two["warnings"] == [[], []]  # "Grad strides do not match bucket view strides"


def test_running_averages_are_those_of_the_first_process(shared_by_two):
    assert shared_by_two["means"] == [5.0, 5.0]


def test_processes_agree_on_reasons_and_values(shared_by_two):
    assert shared_by_two["word"] == "late"
    assert shared_by_two["from_first"] == [7, 7]


def test_a_run_of_two_processes_stops_on_sigterm_and_is_resumed_by_one(store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    words = (f"run_dir={folder.path}", "limits.epochs=4")
    process = start(store, *words, program=(*TORCHRUN, "-m", "nodule_det.train"))
    signal_once(process, signal.SIGTERM, folder.metrics, '"kind": "validation"')
    code, _, err = ended(process)
    assert code == 1, err  # torchrun's own: what became of the run stands in result.json
    result = RunResult.from_json(folder.result.read_text())
    assert (result.status, result.reason) == (RunStatus.STOPPED, "sigterm")
    assert json.loads(folder.environment.read_text())["processes"] == 2
    assert result.step < 4 * 6

    assert run(tiny(store, folder.path, epochs=4)) == ExitCode.COMPLETE
    rows = read_jsonl(folder.metrics)
    assert [row["epoch"] for row in rows if row["kind"] == "validation"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "reason", "message"),
    [
        ("memory", "out_of_memory", "process 1: cuda:1 has no memory left"),
        ("odd", "error", "process 1: KeyError: 'an error that nobody expects'"),
    ],
)
def test_an_error_in_only_the_second_process_fails_the_run(store, tmp_path, kind, reason, message):
    folder = RunFolder(tmp_path / "run")
    program = (*TORCHRUN, str(Path(__file__).with_name("failing_rank.py")), kind)
    code, out, err = ended(start(store, f"run_dir={folder.path}", program=program))
    assert (code, out) == (1, ""), err
    result = RunResult.from_json(folder.result.read_text())
    assert (result.status, result.reason) == (RunStatus.FAILED, reason)
    assert result.message == message
    assert f"error: {message}" in err
    assert message in folder.log.read_text()


def test_a_killed_second_process_fails_the_run_which_can_be_resumed(store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    words = (f"run_dir={folder.path}", "limits.epochs=400")
    process = start(store, *words, program=(*TORCHRUN, "-m", "nodule_det.train"))
    wait_for(process, folder.metrics, '"kind": "validation"')
    os.kill(process_of_rank(1, process.pid), signal.SIGKILL)
    code, _, _ = ended(process)
    assert code == 1
    result = RunResult.from_json(folder.result.read_text())
    assert (result.status, result.reason) == (RunStatus.FAILED, "error")
    assert result.message.startswith(
        "another process of this run ended without reporting why (killed"
    )
    # torchrun may end process 0 before it prints the error, so look in its log
    assert result.message in folder.log.read_text()
    steps = torch.load(folder.checkpoint_last, weights_only=True)["meta"]["step"]
    assert 6 <= steps < 400 * 6

    stopped = replace(tiny(store, folder.path), limits=LimitConfig(epochs=400, wall_s=0.001))
    assert run(stopped) == ExitCode.STOPPED
    assert RunResult.from_json(folder.result.read_text()).step >= steps
    assert not list(folder.path.glob(".failed.*"))


def process_of_rank(rank: int, parent: int) -> int:
    """Find the process of a rank below torchrun's."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (pid,) = [
        int(child)
        for child in children
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    ]
    return pid


def test_neither_process_touches_a_folder_held_by_another_run(store, tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = start(store, f"run_dir={tmp_path}", program=(*TORCHRUN, "-m", "nodule_det.train"))
        code, _, err = ended(process)
    assert code == 1  # torchrun's own
    assert "is in use by another training: held by another process, since" in err
    assert "error: another process of this run failed; see its message" in err
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_single_process_needs_no_others():
    alone = World()
    assert alone.gather("a") == ["a"]
    assert alone.first_of(None) is None
    assert alone.from_first(3) == 3
