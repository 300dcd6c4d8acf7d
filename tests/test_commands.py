"""The table of commands is complete, and mistyped commands get a hint."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nodule_det
from nodule_det.cli import Command
from nodule_det.commands import COMMANDS, load, resolve, sub_commands
from nodule_det.errors import ConfigError

PACKAGE = Path(nodule_det.__file__).parent


def decorated_commands():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for call in node.decorator_list:
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "command":
                        yield call.args[0].value


def test_the_table_lists_every_command_of_the_package():
    assert sorted(decorated_commands()) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_name_of_a_command_leads_to_its_module(name):
    main = load(name)
    assert isinstance(main, Command)
    assert main.name == name


SAID = {"predict": "markups_max (20)", "score": "run_dir (scored)"}
"""A setting with its default that the help of a command shows."""


# the blob detector needs SciPy, and is one module with its command
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_does_not_wait_for_torch(name):
    code = (
        "import sys; from nodule_det.commands import load; sys.argv = ['x', '--help']\n"
        f"try: load({name!r})()\n"
        "finally: assert not {'torch', 'monai', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert SAID.get(name, "Settings (default):") in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train", ("train", [])),
        ("hpo study=s trials=2", ("hpo", ["study=s", "trials=2"])),
        ("hpo report study=s", ("hpo report", ["study=s"])),
        ("train --cfg job", ("train", ["--cfg", "job"])),
        ("train ~experiment", ("train", ["~experiment"])),
    ],
)
def test_leading_words_are_the_command_and_the_rest_its_arguments(words, expected):
    assert resolve(words.split()) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tain store=s", "'tain' is not a command; did you mean train?"),
        ("hpo.report", "'hpo.report' is not a command; did you mean hpo report"),
        ("hpo statsu study=s", "'statsu' is not a sub-command of hpo; did you mean hpo status?"),
        ("train store", "and settings are NAME=VALUE, such as store=VALUE"),
        ("xyzzy", "'xyzzy' is not a command; nodule-det --help lists all"),
        ("store=s", "expected a command first: data, train, predict"),
    ],
)
def test_a_mistyped_command_gets_a_hint(words, message):
    with pytest.raises(ConfigError) as refused:
        resolve(words.split())
    assert message in str(refused.value)


def test_sub_commands_begin_with_the_name_of_their_command():
    assert list(sub_commands("")) == list(COMMANDS)
    assert "hpo status" in sub_commands("hpo")
    assert "hpo" not in sub_commands("hpo")
    assert sub_commands("train") == {}
