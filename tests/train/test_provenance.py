"""The provenance of a run: its command, commit and machine."""

import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch

from nodule_det.train import provenance
from nodule_det.train.provenance import PACKAGES, command_line, commit, environment

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/a/nodule_det/train/__main__.py", "seed=1"], "python -m nodule_det.train seed=1"),
        (["/usr/bin/nodule-det train", "seed=1"], "nodule-det train seed=1"),
        (["/a/my.py", "store=my scans"], "my.py 'store=my scans'"),
    ],
)
def test_the_command_is_ready_to_paste(monkeypatch, argv, command):
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == command
    assert shlex.split(command)[-1] == argv[-1]


def test_the_commit_says_whether_the_package_was_changed(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "nodule_det"
    (package / "train").mkdir(parents=True)
    source = package / "train" / "provenance.py"
    source.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(source))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def git(*words):
        done = subprocess.run([*GIT, *words], cwd=package, capture_output=True, check=True)
        return done.stdout.decode().strip()

    assert commit() is None
    git("init", "-q", "..")
    assert commit() is None  # nothing is committed yet
    git("add", ".")
    git("commit", "-qm", "a")
    assert commit() == git("rev-parse", "HEAD")
    (package / "notes.txt").write_text("a file that git does not know")
    assert commit() == git("rev-parse", "HEAD")
    source.write_text("x = 1\n")
    assert commit() == git("rev-parse", "HEAD") + "+"


def test_the_environment_has_the_versions_and_the_precision():
    about = environment(torch.device("cpu"), torch.bfloat16, 2)
    assert about["packages"] == {name: version(name) for name in PACKAGES}
    assert (about["device"], about["precision"], about["processes"]) == ("cpu", "bfloat16", 2)
    assert about["threads"] == torch.get_num_threads()
