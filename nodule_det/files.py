"""Atomic writing of files, JSON with checksums, and JSON lines.

    replacing(path) ──▶ .path.PID.tmp ──fsync──▶ os.replace ──▶ path
    dict ──write_sealed()──▶ JSON with its checksum ──read_sealed()──▶ the same dict, or ValueError

Needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodule_det.untrusted import open_regular, parse_object, read_bytes, read_object

CHECKSUM = "checksum"
"""Key of the checksum in a sealed JSON file."""

MAX_JSONL_BYTES = 2**30

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors that go away once the disk has free space again."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; the file written there replaces ``path`` at the end.

    The content reaches the disk before the name does.  After a crash or on a full disk either the
    old file or the new one exists, never half of one.  On an error nothing is left behind.

    Raises:
        FileNotFoundError: If the folder does not exist.  Names ``path``, not the temporary file.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # so that a message can say which file does not fit on the disk
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically.  NaN, which JSON does not have, is an error."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with its checksum atomically."""
    write_json(path, value | {CHECKSUM: _checksum(value)})


def read_sealed(path: Path, max_bytes: int) -> dict[str, Any]:
    """Read a JSON object and compare it with its checksum, if it has one.

    Files of earlier versions have none.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a JSON object of finite numbers, or differs from its checksum.
    """
    value = read_object(path, max_bytes)
    if CHECKSUM in value and value.pop(CHECKSUM) != _checksum(value):
        raise ValueError(
            f"{path} differs from its checksum; if you edited it, delete its line {CHECKSUM!r}"
        )
    return value


def _checksum(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_checksum(path: Path) -> str:
    """Return the BLAKE2b checksum of a file's content, 32 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a regular file.
    """
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return digest.hexdigest()


def append_jsonl(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line and flush it to the operating system."""
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(value, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSONL file, skipping truncated and damaged lines.

    Only for files where a lost line costs no more than a point in a plot (``metrics.jsonl``).

    Raises:
        ValueError: If it is not a regular file; names the path.
        OSError: If the file system fails.
    """
    try:
        content = read_bytes(path, MAX_JSONL_BYTES)
    except FileNotFoundError:
        return []
    rows = []
    for line in content.decode(errors="replace").splitlines():
        try:
            rows.append(parse_object(line))
        except ValueError:
            continue
    return rows
