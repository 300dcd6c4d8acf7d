"""Two processes on one node, by gloo: they share each batch, agree, and leave one run folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import ended, signal_once, start, tiny

from nodule_det.runs import ExitCode, RunFolder, RunResult, RunStatus, read_jsonl
from nodule_det.train.distributed import World
from nodule_det.train.run import run

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def shared_by_two(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks") / "shared.json"
    done = subprocess.run(
        [sys.executable, *TORCHRUN, Path(__file__).with_name("two_ranks.py"), store, out],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_two_halves_of_a_batch_give_the_gradient_of_the_whole(shared_by_two):
    first, second = shared_by_two["gradients"]
    assert first == second
    np.testing.assert_allclose(first, shared_by_two["whole"], rtol=1e-4, atol=1e-9)


def test_running_averages_are_those_of_the_first_process(shared_by_two):
    assert shared_by_two["means"] == [5.0, 5.0]


def test_processes_agree_on_words_and_values(shared_by_two):
    assert shared_by_two["word"] == "late"
    assert shared_by_two["from_first"] == [7, 7]


def test_a_run_of_two_processes_stops_on_sigterm_and_goes_on_with_one(store, tmp_path):
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


def test_one_process_alone_needs_nobody():
    alone = World()
    assert alone.gather("a") == ["a"]
    assert alone.first_of(None) is None
    assert alone.from_first(3) == 3
