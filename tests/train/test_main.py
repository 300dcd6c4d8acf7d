"""``python -m nodule_det.train`` as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from nodule_det.errors import ExitCode
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train import __main__
from tests.train.tiny_run import WORDS, ended, signal_once, start


def test_a_smoke_test_runs_the_whole_chain(store, tmp_path):
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
    folders = [RunFolder(path) for path in sorted((tmp_path / "runs").iterdir())]
    results = [RunResult.from_json(folder.result.read_text()) for folder in folders]
    assert [result.status for result in results] == [RunStatus.COMPLETE] * 2
    assert done.stdout.count("pAUC ") == 2
    for seed, folder in enumerate(folders):  # each can be pasted by itself
        text = folder.command.read_text()
        assert f" seed={seed}" in text
        assert "--multirun" not in text


def test_ctrl_c_ends_a_sweep(store, tmp_path):
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    words = (f"run_dir={first.path},{second.path}", "limits.epochs=50", "--multirun")
    process = start(store, *words, program=("-m", "nodule_det", "train"))
    signal_once(process, signal.SIGINT, first.metrics, '"kind": "train"')
    code, out, err = ended(process)
    assert code == ExitCode.STOPPED
    assert out.startswith("stopped (sigint) at step ")
    assert err.endswith("error: the remaining runs of --multirun were not started\n")
    assert first.checkpoint_last.exists()
    assert not second.path.exists()
    assert first.command.read_text().startswith("nodule-det train store=")
    assert str(second.path) not in first.command.read_text()


def test_a_missing_store_is_a_one_line_error(tmp_path):
    process = start(tmp_path / "nowhere", f"run_dir={tmp_path / 'run'}")
    code, out, err = ended(process)
    assert code == ExitCode.BAD_INPUT
    assert out == ""
    assert err.startswith("error: store=")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture
def train(monkeypatch, capsys, store):
    """Return a function that runs the command in this process: (exit code, output, errors)."""

    def call(*words):
        monkeypatch.setattr("sys.argv", ["train", f"store={store}", *WORDS, *words])
        with pytest.raises(SystemExit) as left:
            __main__.main()
        return left.value.code, *capsys.readouterr()

    return call


def one_line(err):
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def stopped(train, tmp_path):
    """Make a run that stopped at once; returns its folder and the arguments that resume it."""
    folder = RunFolder(tmp_path / "run")
    assert train(f"run_dir={folder.path}", "limits.wall_s=0.001")[0] == ExitCode.STOPPED
    return folder


def test_a_damaged_checkpoint_is_a_one_line_error_and_is_kept(train, stopped):
    content = stopped.checkpoint_last.read_bytes()[:-500]
    stopped.checkpoint_last.write_bytes(content)
    code, out, err = train(f"run_dir={stopped.path}")
    assert (code, out) == (ExitCode.ERROR, "")
    assert f"checkpoint {stopped.checkpoint_last} cannot be read (" in one_line(err)
    assert "use another one of the run" in err
    assert stopped.checkpoint_last.read_bytes() == content
    assert not list(stopped.path.glob("*.tmp"))


def test_a_checkpoint_of_another_architecture_is_a_one_line_error(train, stopped, tmp_path):
    other = RunFolder(tmp_path / "other")
    train(f"run_dir={other.path}", "limits.wall_s=0.001", "model.filters=6")
    stopped.checkpoint_last.write_bytes(other.checkpoint_last.read_bytes())
    code, out, err = train(f"run_dir={stopped.path}")
    assert (code, out) == (ExitCode.ERROR, "")
    assert "is of another architecture" in one_line(err)
    assert "use the checkpoint of a run with these settings" in err


def test_a_patch_larger_than_the_lung_box_is_a_one_line_error(train, tmp_path):
    code, out, err = train(f"run_dir={tmp_path / 'run'}", "patches.size_vox=64")
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert "patches.size_vox=64" in one_line(err)
    assert "1.2.1" in err  # the first scan of the training folds
    assert not (tmp_path / "run/last.pt").exists()


def test_a_read_only_folder_is_a_one_line_error(train, small_disk):
    disk = small_disk("100k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, out, err = train(f"run_dir={disk / 'run'}")
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert f"run_dir={disk / 'run'} cannot be written (Read-only file system)" in one_line(err)
    assert list(disk.iterdir()) == []


def test_a_completely_full_disk_is_not_reported_as_a_wrong_setting(train, small_disk):
    disk = small_disk("8k")
    code, out, err = train(f"run_dir={disk / 'run'}", "limits.epochs=1")
    assert (code, out) == (ExitCode.UNWRITTEN, "")
    assert "cannot be written (No space left on device); free disk space" in err


def test_a_disk_too_full_for_the_checkpoint_is_reported_and_the_run_can_be_resumed(
    train, small_disk
):
    disk = small_disk("64k")
    folder = RunFolder(disk / "run")
    code, out, err = train(f"run_dir={folder.path}", "limits.epochs=1")
    assert (code, out) == (ExitCode.UNWRITTEN, "")
    assert f"checkpoint {folder.checkpoint_last} cannot be written (" in err
    assert "The same command resumes" in err
    assert not folder.checkpoint_last.exists()
    assert not list(folder.path.glob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    code, out, err = train(f"run_dir={folder.path}", "limits.epochs=1")
    assert (code, err) == (ExitCode.COMPLETE, "")
