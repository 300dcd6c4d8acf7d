import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.errors import StudyError
from nodule_det.hpo.study.journal import Journal, read_journal

RECORDS = [{"kind": "asked", "trial": n, "params": {"optim.lr": 10.0**-n}} for n in (1, 2, 3)]
LINES = [(json.dumps(r) + "\n").encode() for r in RECORDS]


def write(path, records=RECORDS):
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path


def test_appended_records_are_read(tmp_path):
    reading = read_journal(write(tmp_path / "j.jsonl"))
    assert reading.records == tuple(RECORDS)
    assert reading.problems == ()


def test_a_journal_truncated_at_any_byte_keeps_every_complete_line_and_continues(tmp_path):
    whole = b"".join(LINES)
    path = tmp_path / "j.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        kept = [r for i, r in enumerate(RECORDS) if cut >= sum(map(len, LINES[: i + 1])) - 1]
        assert read_journal(path).records == tuple(kept)
        write(path, [{"kind": "after"}])
        reading = read_journal(path)
        assert reading.records == (*kept, {"kind": "after"})
        assert reading.problems == ()


@given(st.integers(0, len(LINES[1]) - 2), st.integers(0, 255))
def test_a_damaged_line_only_loses_itself(tmp_path_factory, at, byte):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    damaged = bytearray(LINES[1])
    damaged[at] = byte
    path.write_bytes(LINES[0] + bytes(damaged) + LINES[2])
    records = read_journal(path).records
    assert records[0] == RECORDS[0]
    assert records[-1] == RECORDS[2]


def test_an_unreadable_line_is_reported(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(LINES[0] + b"\0\0\0\n" + LINES[2])
    assert read_journal(path).problems == (f"{path} line 2 cannot be read and was skipped",)
    assert Journal(path).problems == read_journal(path).problems


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
from nodule_det.hpo.study.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
journal = Journal(Path(sys.argv[1]))
for line in sys.stdin:
    journal.append(json.loads(line))
"""


def test_a_full_disk_does_not_change_the_journal(tmp_path):
    path = tmp_path / "j.jsonl"
    limit = sum(map(len, LINES[:2])) + 10  # a limit on the file's size stands for the full disk
    command = [sys.executable, "-c", FULL_DISK, str(path), str(limit)]
    run = subprocess.run(command, input=b"".join(LINES), capture_output=True)
    assert b"OSError" in run.stderr
    assert path.read_bytes() == b"".join(LINES[:2])


def test_only_the_owner_can_read_a_journal(tmp_path):
    assert write(tmp_path / "j.jsonl").stat().st_mode & 0o077 == 0


def test_a_folder_without_a_journal_is_not_a_study(tmp_path):
    with pytest.raises(StudyError, match="does not exist: this folder is not a study"):
        read_journal(tmp_path / "journal.jsonl")


def test_a_second_writer_is_noticed_before_anything_is_overwritten(tmp_path):
    path = write(tmp_path / "j.jsonl", RECORDS[:1])
    old, new = Journal(path), Journal(path)
    new.append(RECORDS[1])
    with pytest.raises(StudyError, match="was changed by another process; this driver stops"):
        old.append(RECORDS[2])
    new.append(RECORDS[2])
    assert read_journal(path).records == tuple(RECORDS)
    old.close()
    new.close()


def test_a_partial_record_that_cannot_be_removed_at_once_is_removed_before_the_next_one(
    tmp_path, monkeypatch
):
    path = write(tmp_path / "j.jsonl", RECORDS[:1])
    journal = Journal(path)

    def broken(*_):
        raise OSError("Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", broken)
        disk.setattr(os, "ftruncate", broken)
        with pytest.raises(OSError, match="Input/output error"):
            journal.append(RECORDS[1])
    journal.append(RECORDS[2])
    journal.close()
    assert read_journal(path).records == (RECORDS[0], RECORDS[2])
