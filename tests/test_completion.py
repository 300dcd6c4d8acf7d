"""Tab completion: what is suggested, and completion in a real bash on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodule_det.commands import COMMANDS
from nodule_det.completion import complete, script
from nodule_det.errors import ConfigError
from tests.programs import need_programs


def test_every_command_is_completed_word_by_word():
    for name in COMMANDS:
        *before, last = name.split()
        assert f"{last} " in complete(" ".join(["nodule-det", *before, ""]))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nodule-det tr", ["train "]),
        ("nodule-det hpo sta", ["status "]),
        ("nodule-det train optim.l", ["optim.lr="]),
        ("nodule-det train seed=3 optim.l", ["optim.lr="]),
        ("nodule-det train device=c", ["device=cpu ", "device=cuda "]),
        ("nodule-det train fast=", ["fast=true ", "fast=false "]),
        ("nodule-det train seed=", []),
        ("nodule-det train experiment=d", ["experiment=demo "]),
        ("nodule-det hpo dispatcher=s", ["dispatcher=slurm "]),
        ("nodule-det train --mul", ["--multirun "]),
        ("nodule-det trian st", []),
    ],
)
def test_settings_and_their_values_are_completed(line, offered):
    assert complete(line) == offered


def test_files_are_completed_if_a_setting_is_a_text(tmp_path, monkeypatch):
    (tmp_path / "stores").mkdir()
    (tmp_path / "stories.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert complete("nodule-det train store=sto") == ["store=stores/", "store=stories.txt "]


def test_another_shell_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"--completion fish is not available; use .*bash"):
        script("fish")


@pytest.fixture(scope="module")
def bash(tmp_path_factory) -> Iterator[Bash]:
    need_programs("bash")
    folder = tmp_path_factory.mktemp("bash")
    program = folder / "nodule-det"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nodule_det "$@"\n')
    program.chmod(0o755)
    (folder / "stores").mkdir()
    shell = Bash(folder)
    yield shell
    shell.close()


class Bash:
    """An interactive bash on a pseudo-terminal, with the completion script loaded."""

    def __init__(self, folder: Path) -> None:
        self._terminal, there = pty.openpty()
        environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PS1": "READY>",
            "TERM": "dumb",
            "INPUTRC": os.devnull,
        }
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"], stdin=there, stdout=there, stderr=there,
            env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip
        os.close(there)
        self.read_until("READY>")
        self.type('eval "$(nodule-det --completion bash)"\n')
        self.read_until("READY>")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read_until(self, expected: str) -> str:
        said = ""
        while expected not in said:
            ready, _, _ = select.select([self._terminal], [], [], 30)
            assert ready, f"bash printed {said!r}, without {expected!r}"
            said += os.read(self._terminal, 4096).decode()
        return said

    def completed(self, typed: str) -> str:
        """Return the line that pressing tab makes of what was typed."""
        self.type(f"{typed}\t|")  # the bar shows where the completed word ends
        line = self.read_until("|")
        self.type("\x15\n")  # discard the line
        self.read_until("READY>")
        plain = re.sub(r"\x07|\x1b\[[0-9;?]*[A-Za-z]", "", line)
        return re.split(r"\n|READY>", plain)[-1].rstrip("|")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("nodule-det tra", "nodule-det train "),
        ("nodule-det hpo stat", "nodule-det hpo status "),
        ("nodule-det train optim.l", "nodule-det train optim.lr="),
        ("nodule-det train optim.lr=1 dev", "nodule-det train optim.lr=1 device="),
        ("nodule-det train device=cu", "nodule-det train device=cuda "),
        ("nodule-det hpo dispatcher=reed", "nodule-det hpo dispatcher=reedbush "),
        ("nodule-det train store=sto", "nodule-det train store=stores/"),
    ],
)
def test_a_real_bash_completes_the_word_at_the_cursor(bash, typed, line):
    assert bash.completed(typed) == line
