"""``nodule-det`` and ``python -m nodule_det``: real processes, their output and exit codes."""

from __future__ import annotations

import subprocess
import sys

from nodule_det import __version__
from nodule_det.commands import COMMANDS


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nodule_det", *words],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_arguments_all_commands_are_listed():
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    for name, text in COMMANDS.items():
        assert f"\n  {name} " in done.stdout
        assert f"  {text}\n" in done.stdout
    assert run("--help").stdout == done.stdout


def test_the_version_is_printed():
    assert run("--version").stdout == f"nodule_det {__version__}\n"


def test_a_command_with_its_sub_command_runs_as_its_module_does():
    by_module = subprocess.run(
        [sys.executable, "-m", "nodule_det.hpo.report", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run("hpo", "report", "--help").stdout == by_module.stdout
    assert by_module.stdout.startswith("nodule-det hpo report [NAME=VALUE ...]\n")


def test_settings_reach_the_command(tmp_path):
    done = run("hpo", "status", f"study={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/journal.jsonl")


def test_a_mistyped_command_is_a_one_line_error_with_exit_code_2():
    done = run("tain", "store=s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: 'tain' is not a command; did you mean train? nodule-det --help lists all\n"
    )


def test_completion_of_an_unknown_shell_is_refused():
    done = run("--completion", "fish")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
