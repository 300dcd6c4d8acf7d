"""A run that is stopped or killed ends with the same result as one that was not."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest
import torch

from nodule_det.config.train import LimitConfig
from nodule_det.errors import ExitCode
from nodule_det.files import read_jsonl
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train.run import run
from tests.train.tiny_run import ended, same_bits, signal_once, start, tiny

EPOCHS = 4
TIMES = ("seconds",)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Compute in one thread, as the processes of these tests do, since sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def unstopped(store, tmp_path_factory):
    """Return the folder of a run that was not stopped."""
    config = tiny(store, tmp_path_factory.mktemp("unstopped"), epochs=EPOCHS)
    run(config)
    return RunFolder(config.run_dir)


def assert_same_end(folder: RunFolder, unstopped: RunFolder) -> None:
    for name in ("checkpoint_last", "checkpoint_best"):
        assert same_bits(getattr(folder, name), getattr(unstopped, name))
    assert metrics(folder) == metrics(unstopped)
    assert folder.candidates.read_bytes() == unstopped.candidates.read_bytes()
    results = [RunResult.from_json(f.result.read_text()) for f in (folder, unstopped)]
    assert results[0].status is RunStatus.COMPLETE
    assert results[0].pauc_interval == results[1].pauc_interval
    assert results[0].best_step == results[1].best_step


def metrics(folder: RunFolder) -> list[dict[str, object]]:
    """Return all lines of metrics without their times."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_jsonl(folder.metrics)]


def test_a_run_killed_twice_at_random_moments_ends_with_the_same_bits(store, tmp_path, unstopped):
    folder = RunFolder(tmp_path / "run")
    words = (f"run_dir={folder.path}", f"limits.epochs={EPOCHS}", "limits.checkpoint_s=1")
    for validated, later_s in ((1, 0.21), (2, 0.07)):
        process = start(store, *words)
        text = f'"kind": "validation", "step": {6 * validated}'
        signal_once(process, signal.SIGKILL, folder.metrics, text, later_s)
        assert ended(process)[0] == -signal.SIGKILL
        assert RunResult.from_json(folder.result.read_text()).status is RunStatus.RUNNING
    run(tiny(store, folder.path, epochs=EPOCHS))
    assert_same_end(folder, unstopped)


def test_sigterm_leaves_a_checkpoint_and_exit_code_85(store, tmp_path, unstopped):
    folder = RunFolder(tmp_path / "run")
    process = start(store, f"run_dir={folder.path}", f"limits.epochs={EPOCHS}")
    signal_once(process, signal.SIGTERM, folder.metrics, '"kind": "validation"')
    code, out, err = ended(process)
    assert code == ExitCode.STOPPED == 85, err
    assert out.startswith("stopped (sigterm) at step ")
    result = RunResult.from_json(folder.result.read_text())
    assert (result.status, result.reason) == (RunStatus.STOPPED, "sigterm")
    run(tiny(store, folder.path, epochs=EPOCHS))
    assert_same_end(folder, unstopped)


def test_sessions_of_one_step_end_with_the_same_bits_as_one_session(store, tmp_path, unstopped):
    config = tiny(store, tmp_path, epochs=EPOCHS)
    folder = RunFolder(tmp_path)
    short = replace(config, limits=LimitConfig(epochs=EPOCHS, wall_s=0.001))
    for step in (1, 2, 3):
        assert run(short) == ExitCode.STOPPED
        result = RunResult.from_json(folder.result.read_text())
        assert (result.step, result.reason) == (step, "wall_clock")
    run(config)
    assert_same_end(folder, unstopped)


def test_seconds_add_up_over_sessions(store, tmp_path):
    config = tiny(store, tmp_path, epochs=1)
    run(replace(config, limits=LimitConfig(epochs=1, wall_s=0.001)))
    before_s = json.loads(RunFolder(tmp_path).result.read_text())["seconds"]
    run(config)
    assert json.loads(RunFolder(tmp_path).result.read_text())["seconds"] > before_s > 0


def test_a_validation_longer_than_any_session_is_done_scan_by_scan(store, tmp_path):
    whole, parts = (
        tiny(store, tmp_path / "whole", epochs=1),
        tiny(store, tmp_path / "parts", epochs=1),
    )
    assert run(whole) == ExitCode.COMPLETE
    short = replace(parts, limits=LimitConfig(epochs=1, wall_s=0.001))
    folder, kept = RunFolder(tmp_path / "parts"), []
    codes = [run(short)]
    while codes[-1] == ExitCode.STOPPED and len(codes) < 12:
        codes.append(run(short))
        kept.append(json.loads(folder.result.read_text())["n_scans_validated"])
    assert codes == [*8 * [ExitCode.STOPPED], ExitCode.COMPLETE]  # 6 steps, then 3 scans
    assert kept == [*5 * [0], 1, 2, 0]
    assert folder.candidates.read_bytes() == RunFolder(tmp_path / "whole").candidates.read_bytes()
    assert metrics(folder) == metrics(RunFolder(tmp_path / "whole"))
