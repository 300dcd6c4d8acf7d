"""The command line as users see it: real processes, their messages and exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from nodule_det.checkpoint import Checkpoint, save_checkpoint
from nodule_det.commands import COMMANDS
from nodule_det.errors import ExitCode
from nodule_det.model import build_model
from tests.data.chests import write_folder
from tests.predict.test_main import META

NO_TORCH = (
    "import sys; slow = {'torch', 'monai', 'matplotlib'} & set(sys.modules); "
    "assert not slow, f'{slow} imported'"
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", [name.replace(" ", ".") for name in COMMANDS])
@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_help_and_cfg_answer_without_importing_torch(name, flags):
    code = (
        f"import runpy, sys; sys.argv = ['x', *{flags!r}]\n"
        f"try: runpy.run_module('nodule_det.{name}', run_name='__main__')\n"
        f"except SystemExit as e: code = e.code\n{NO_TORCH}\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=1e-3", "unknown setting optim.lrr; did you mean optim.lr"),
        ("lr=1e-3", "unknown setting lr; did you mean optim.lr"),
        ("optim.batch_size=many", "Value 'many' of type 'str' could not be converted to Integer"),
        ("optim.batch_size=0", "optim.batch_size=0 must lie in [1, 4096]"),
        ("device=tpu", "expected one of [auto, cpu, cuda]"),
        ("augment.shift_vox=17", "more than half of patches.size_vox=32"),
        ("a=b=c", "cannot parse a=b=c: quote a value that contains = : or brackets, 'a=\"b=c\"'"),
        (
            "optim.lr",
            "unrecognised argument 'optim.lr': settings are NAME=VALUE, such as optim.lr=",
        ),
        ("experiment=foo", "experiment=foo does not exist; experiment can be: builtin, demo"),
        ("experiment=dmo", "did you mean demo?"),
        ("experimnt=demo", "unknown setting experimnt; did you mean experiment?"),
        ("colours=red", "and sets of settings: experiment (builtin, demo"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(override, words, tmp_path):
    done = run("nodule_det.train", override)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_flag_may_come_between_settings():
    done = run("nodule_det.train", "seed=3", "--cfg", "job", "optim.lr=0.5", "--resolve")
    assert done.returncode == 0, done.stderr
    assert {"seed: 3", "  lr: 0.5"} <= set(done.stdout.split("\n"))


def test_an_unknown_setting_lists_the_known_ones():
    message = run("nodule_det.train", "colour=red").stderr
    assert "; the settings are: store, fold, test_fold, run_dir, seed" in message


def test_a_setting_that_takes_any_name_needs_no_plus():
    words = ("dispatcher.environment.SITE=x", "+dispatcher.environment.A=y", "study=s")
    said = run("nodule_det.hpo", *words, "--cfg", "job").stdout
    assert "  environment:\n    SITE: x\n    A: 'y'\n" in said
    said = run("nodule_det.train", "model.kwargs={a: 1, b: [2, 3]}", "--cfg", "job").stdout
    assert "  kwargs:\n    a: 1\n    b:\n    - 2\n    - 3\n" in said


def test_an_unknown_choice_of_a_group_lists_the_known_ones(tmp_path):
    done = run("nodule_det.hpo", "dispatcher=slrm")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: dispatcher=slrm does not exist; did you mean slurm? dispatcher can be: abci3, cx3, "
        "gadi, local, miyabi, nas, pbs, pbs_over_slurm, reedbush, slurm\n"
    )


def test_a_folder_that_cannot_be_written_is_a_one_line_error_in_every_command(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "rows.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm,probability\na,1,2,3,4,0.5\n"
    )
    (tmp_path / "scans.csv").write_text("seriesuid\na\n")
    rows = tmp_path / "rows.csv"
    done = run(
        "nodule_det.evaluate", f"candidates={rows}", f"annotations={rows}",
        f"scans={tmp_path / 'scans.csv'}", f"out={tmp_path / 'file' / 'x'}",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"error: cannot read or write {tmp_path / 'file' / 'x'} (Not a directory); check that it "
        "exists, that the disk is not full, and that you have permission\n"
    )


def test_single_threaded_linear_algebra_is_not_passed_on_to_jobs():
    code = (
        "import os; from nodule_det.cli import calculate_in_one_thread as one; one(); "
        "import numpy as np, scipy.linalg; a = np.eye(600) @ np.eye(600); scipy.linalg.inv(a); "
        "print(len(os.listdir('/proc/self/task')), 'OPENBLAS_NUM_THREADS' in os.environ)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "False"]


def test_a_closed_pipe_is_not_success_and_the_files_are_there(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm,probability\na,1,2,3,4,0.5\n"
    )
    (tmp_path / "scans.csv").write_text("seriesuid\na\nb\n")
    words = ["candidates=rows.csv", "annotations=rows.csv", "scans=scans.csv", "bootstrap=2"]
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does once it has seen enough
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det", "evaluate", *words],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")
    assert json.loads((tmp_path / "evaluation" / "froc.json").read_text())["n_scans"] == 2


def test_a_closed_pipe_ends_a_sweep_with_its_code(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    words = ["source=phantom", f"out={tmp_path / 'store'}", "phantom.n_scans=-1,-2", "--multirun"]
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det", "data", *words],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == ExitCode.BAD_INPUT, "nothing was printed, so nothing was lost"
    assert done.stderr.count("error: phantom.n_scans=") == 2


@pytest.mark.parametrize("name", ["Müller Jürgen, 肺 CT a=b {c} [1]", b"M\xfcller's"])
def test_any_folder_name_needs_no_quotes_but_the_shells(tmp_path, name):
    """A name is quoted once, for the shell, as for any other program."""
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    write_folder(tmp_path / "plain", 2)
    shutil.move(tmp_path / "plain", folder / "scans, 2")
    save_checkpoint(folder / "best.pt", Checkpoint(META, build_model(META.model).state_dict()))
    script = """
    set -e
    nodule_det() { "$PYTHON" -m nodule_det "$@"; }
    nodule_det data source="$NAME/scans, 2/scans" annotations="$NAME/scans, 2/annotations.csv" \
        out="$NAME/store" layout=folder store.spacing_mm=2.5 workers=1
    nodule_det data verify store="$NAME"/store
    nodule_det predict checkpoint="$NAME/best.pt" input="$NAME/scans, 2/scans" \
        out="$NAME/found" device=cpu
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, timeout=300, check=False,
        env=os.environ
        | {"PYTHON": sys.executable, "NAME": os.fsdecode(name), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"error" not in done.stderr
    assert f"2 of 2 scans  {folder.name}/found".encode(errors="surrogateescape") in done.stdout
    assert (folder / "store" / "splits.json").is_file()
    assert (folder / "found" / "candidates.csv").is_file()
