"""Writing files so that none is ever half, and reading JSON lines.

    replacing(path) ──▶ .path.PID.tmp ──fsync──▶ os.replace ──▶ path

Needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk that pass once somebody makes room."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Return a temporary name beside ``path``; what was written there takes its place at the end.

    The content reaches the disk before the name does, so after a crash or a full disk there is
    the old file or the new one, never half of one.  On an error nothing is left behind.

    Raises:
        FileNotFoundError: If there is no such folder; it names ``path``, not the temporary file.
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
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; a NaN is an error, not a word that JSON lacks."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def append_jsonl(path: Path, value: dict[str, Any]) -> None:
    """Append one JSON line and flush it to the operating system."""
    with open(path, "a", encoding="utf-8") as f:
        f.write(json.dumps(value, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of a JSONL file; a line torn by a crash is left out.

    Only for files where a lost line costs a point in a plot (``metrics.jsonl``).
    """
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
