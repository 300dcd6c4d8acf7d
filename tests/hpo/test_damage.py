"""A short form of ``python -m tests.hpo.damage``, and the worst cases by hand."""

import json
import os
import re
import subprocess
import sys

import pytest

from nodule_det.errors import StudyError
from nodule_det.hpo.study.study import read_study
from tests.hpo import damage
from tests.hpo.command_line import hpo


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_study_loses_no_more_than_what_was_damaged(seed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    what, trace = damage.one(seed)
    assert trace is None, f"{what}\n{trace}"


@pytest.mark.parametrize("seed", [11])
def test_a_damaged_study_has_a_report(seed, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    what, trace = damage.one(seed, damage.report)
    assert trace is None, f"{what}\n{trace}"


@pytest.mark.parametrize("way", ["fifo", "folder", "loop", "binary", "empty", "nested"])
def test_a_study_whose_journal_is_damaged_is_refused_in_one_line(way, tmp_path):
    journal = tmp_path / "journal.jsonl"
    if way == "fifo":
        os.mkfifo(journal)
    elif way == "folder":
        journal.mkdir()
    elif way == "loop":
        journal.symlink_to(journal)
    else:
        odd = {"binary": b"\xff\0" * 99, "empty": b"", "nested": b"[" * 99999}
        journal.write_bytes(odd[way])
    with pytest.raises(StudyError, match=re.escape(str(journal))):
        read_study(tmp_path)


@pytest.mark.parametrize("command", ["status", "show", "export", "cancel", "add"])
def test_every_command_refuses_a_journal_that_is_a_fifo(command, tmp_path):
    os.mkfifo(tmp_path / "journal.jsonl")
    words = {"cancel": ["trial=1"], "add": ["points=nothing.yaml"]}.get(command, [])
    run = hpo(f"nodule_det.hpo.{command}", f"study={tmp_path}", *words, code=1)
    assert run.stderr.startswith(f"error: {tmp_path}/journal.jsonl cannot be read: it is not a")
    assert run.stderr.count("\n") == 1


def test_untrusted_escape_sequences_reach_neither_terminals_nor_tables(study):
    with open(study / "journal.jsonl", "a") as f:
        f.write(json.dumps({"kind": "asked", "trial": 4, "source": "\x1b]0;evil\x07"}) + "\n")
        f.write(json.dumps({"kind": "session\x1b[2J", "t": 1}) + "\n")
    for command in ("status", "show", "export"):
        run = subprocess.run(
            [sys.executable, "-m", f"nodule_det.hpo.{command}", f"study={study}"],
            capture_output=True,
            check=True,
        )
        assert b"\x1b" not in run.stdout + run.stderr
    assert b"\x1b" not in (study / "trials.csv").read_bytes()
