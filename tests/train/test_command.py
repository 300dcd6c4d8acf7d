"""``python -m nodule_det.train`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys

from tiny_run import WORDS, ended, start

from nodule_det.runs import ExitCode, RunFolder, RunResult, RunStatus


def test_a_smoke_run_goes_through_the_whole_chain(store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    code, out, err = ended(start(store, f"run_dir={folder.path}", "fast=true"))
    assert code == 0, err
    assert out.startswith("pAUC ")
    assert out.count("\n") == 1
    assert str(folder.path) in out
    assert "python -m nodule_det.train" in folder.command.read_text()
    assert folder.curve_figure.stat().st_size > 1000


def test_a_sweep_of_two_seeds_makes_two_folders(store, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.train", f"store={store}", *WORDS, "limits.epochs=1",
         "seed=0,1", "--multirun"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [RunFolder(path).result for path in sorted((tmp_path / "runs").iterdir())]
    assert len(results) == 2
    assert {RunResult.from_json(r.read_text()).status for r in results} == {RunStatus.COMPLETE}
    assert done.stdout.count("pAUC ") == 2


def test_a_store_that_is_missing_ends_in_one_line(tmp_path):
    process = start(tmp_path / "nowhere", f"run_dir={tmp_path / 'run'}")
    code, out, err = ended(process)
    assert code == ExitCode.ERROR
    assert out == ""
    assert err.startswith("error: store=")
    assert err.count("\n") == 1
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"
