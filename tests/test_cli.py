"""The command line as a user meets it: real processes, their words and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nodule_det.cli import explain, help_text, settings
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError

COMMANDS = [
    "data",
    "train",
    "predict",
    "evaluate",
    "report",
    "baseline",
    "demo",
    "hpo",
    "hpo.status",
    "hpo.report",
    "hpo.show",
    "hpo.add",
    "hpo.cancel",
    "hpo.export",
    "hpo.simulate",
]
NO_TORCH = (
    "import sys; slow = {'torch', 'monai', 'matplotlib'} & set(sys.modules); "
    "assert not slow, f'{slow} imported'"
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
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


def test_help_names_every_setting_with_its_default():
    text = help_text("train", TrainConfig)
    for key, (_, doc) in settings(TrainConfig):
        assert f"  {key} (" in text
        assert doc, f"{key} has no docstring"
    assert "  optim.lr (0.001)" in text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=1e-3", "there is no setting optim.lrr; did you mean optim.lr"),
        ("lr=1e-3", "there is no setting lr; did you mean optim.lr"),
        ("optim.batch_size=many", "Value 'many' of type 'str' could not be converted to Integer"),
        ("optim.batch_size=3", "optim.batch_size=3 must be one of 2, 4, ..., 16"),
        ("device=tpu", "expected one of [auto, cpu, cuda]"),
        ("augment.shift_vox=17", "more than half of patches.size_vox=32"),
        ("a=b=c", "a=b=c cannot be read: a value with = : or brackets needs quotes, 'a=\"b=c\"'"),
        ("optim.lr", "optim.lr is no setting: give NAME=VALUE"),
        ("experiment=foo", "experiment=foo is not there; experiment may be: demo"),
        ("experiment=dmo", "did you mean demo?"),
        ("experimnt=demo", "there is no setting experimnt; did you mean experiment?"),
        ("space=nomura", "and as a whole: experiment (demo)"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(override, words, tmp_path):
    done = run("nodule_det.train", override)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_flag_may_stand_between_settings():
    done = run("nodule_det.train", "seed=3", "--cfg", "job", "optim.lr=0.5", "--resolve")
    assert done.returncode == 0, done.stderr
    assert {"seed: 3", "  lr: 0.5"} <= set(done.stdout.split("\n"))


def test_an_unknown_setting_lists_the_known_ones():
    message = run("nodule_det.train", "colour=red").stderr
    assert "; the settings are: store, fold, run_dir, seed" in message


def test_a_name_of_ones_own_is_added_by_a_plus():
    done = run("nodule_det.hpo", "dispatcher.environment.SITE=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: dispatcher.environment takes names of your own, each added by a plus: "
        "+dispatcher.environment.SITE=VALUE\n"
    )


def test_an_unknown_choice_of_a_group_lists_the_known_ones(tmp_path):
    done = run("nodule_det.hpo", "dispatcher=slrm")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: dispatcher=slrm is not there; did you mean slurm? dispatcher may be: local, pbs, "
        "pbs_over_slurm, reedbush, slurm\n"
    )


def test_shell_completion_knows_the_settings():
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.train", "--shell-completion", "query=bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"COMP_LINE": "nodule-det-train optim.l", "COMP_POINT": "24", "PATH": "/usr/bin"},
    )
    assert "optim.lr=" in done.stdout, done.stderr


def test_a_folder_that_cannot_be_written_is_one_line_in_every_command(tmp_path):
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
        f"error: {tmp_path / 'file' / 'x'} cannot be read or written (Not a directory); is it "
        "there, is there room, and may you?\n"
    )


def test_the_reason_of_a_chain_of_errors_is_the_one_told():
    error = RuntimeError("wrapped")
    error.__cause__ = ConfigError("seed=-1 must lie in [0, 2]")
    assert explain(error, TrainConfig) == "seed=-1 must lie in [0, 2]"


def test_linear_algebra_in_one_thread_is_not_handed_on_to_jobs():
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
