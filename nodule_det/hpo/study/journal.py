"""The journal: one JSON object per line, appended by one writer, never changed.

    driver ──append()──▶ journal.jsonl ──read_journal()──▶ records, and what could not be read

A record is on the disk (fsync) before ``append`` returns, so that the next step, such as a
submission, can rely on it.  After a crash the last line may be truncated: the writer removes it
when it opens the file, and readers skip it.  A full disk leaves the journal unchanged.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodule_det.errors import StudyError
from nodule_det.untrusted import parse_object, read_bytes

Record = dict[str, Any]
MAX_BYTES = 1 << 32
"""Largest journal that is read: about a million trials."""


@dataclass(frozen=True)
class Reading:
    """Content of a journal."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]
    """One sentence for each line that could not be read."""
    whole_bytes: int
    """Length of the file up to the end of its last complete line."""


def read_journal(path: Path) -> Reading:
    """Read every complete line.  Truncated and unreadable lines are skipped and reported.

    Raises:
        StudyError: If the file does not exist or cannot be read.
    """
    try:
        content = read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist: this folder is not a study") from None
    except ValueError as error:
        raise StudyError(f"{error}; restore the journal of this study") from None
    records: list[Record] = []
    problems: list[str] = []
    whole = 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        last = number == len(lines)
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line.strip():
            what = "is truncated" if last else "cannot be read"
            problems.append(f"{path} line {number} {what} and was skipped")
        if not last or record is not None:
            whole += len(line) + (not last)
    return Reading(tuple(records), tuple(problems), whole)


def _parse(line: bytes) -> Record | None:
    try:
        record = parse_object(line)
    except ValueError:
        return None
    return record if isinstance(record.get("kind"), str) else None


class Journal:
    """The only writer of a journal.  Hold the study's lock before creating one.

    Opening repairs the end of the file: a truncated line is removed, and a last line without a line
    feed gets one, so that the next record never continues a broken line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: tuple[str, ...] = ()
        if os.path.lexists(path):
            reading = read_journal(path)
            self.problems = reading.problems
            _repair(path, reading.whole_bytes)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        _sync_folder(path.parent)
        self._size = os.fstat(self._fd).st_size
        self._unfinished = 0
        """Bytes of an append in progress, some of which may be in the file."""

    def append(self, record: Record) -> None:
        """Write one record.  It is on the disk when this returns.

        Raises:
            OSError: If it could not be written (a full disk).  The journal is then unchanged.
            StudyError: If another process has written to the journal.
        """
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        self._cut_unfinished()
        self._unfinished = len(line)
        try:
            written = os.write(self._fd, line)
            while written < len(line):
                written += os.write(self._fd, line[written:])
            os.fsync(self._fd)
        except OSError:
            self._cut_unfinished()
            raise
        self._size += len(line)
        self._unfinished = 0

    def _cut_unfinished(self) -> None:
        """Remove the remains of a failed append.  Any other addition is from another writer."""
        beyond = os.fstat(self._fd).st_size - self._size
        if not 0 <= beyond <= self._unfinished:
            raise StudyError(
                f"{self.path} was changed by another process; this driver stops, its jobs continue"
            )
        if beyond:
            os.ftruncate(self._fd, self._size)

    def close(self) -> None:
        """Close the file.  Every record is already on the disk."""
        os.close(self._fd)


def _repair(path: Path, whole_bytes: int) -> None:
    with open(path, "r+b") as f:
        f.truncate(whole_bytes)
        if whole_bytes:
            f.seek(whole_bytes - 1)
            if f.read(1) != b"\n":
                f.write(b"\n")
        f.flush()
        os.fsync(f.fileno())


def _sync_folder(folder: Path) -> None:
    """Write a new file's name to the disk, so that it survives a crash."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
