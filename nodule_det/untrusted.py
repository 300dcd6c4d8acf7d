"""Reading untrusted input: files of any kind, JSON with any content, text with any characters.

    path ──read_bytes()──▶ bytes ──parse_object()──▶ dict of finite numbers, text, lists, dicts
    path ──read_yaml()──▶ the same from YAML, without a bomb of aliases
    text ──printable()──▶ one line that is safe on a terminal

Studies, run folders and data sets are shared, copied, edited and damaged.  Code that reads them
expects ``FileNotFoundError`` and ``ValueError`` from these functions, and ``OSError`` for transient
faults of the file system.  Needs nothing but the standard library (``read_yaml``: PyYAML).
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NEVER_READABLE = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP),
        *(errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG, errno.EINVAL),
    }
)
"""Errors of the file itself.  All others come from the disk or its server and may be transient."""


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of limited size.  Never blocks on a FIFO, a device or a socket.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a regular file, too large, or not readable; names the path.
        OSError: If the file system fails in a way that may be transient.
    """
    with open_regular(path) as f:
        content = f.read() if os.fstat(f.fileno()).st_size <= max_bytes else None
    if content is None or len(content) > max_bytes:
        raise ValueError(f"{path} cannot be read: it is larger than {max_bytes:,} bytes")
    return content


def read_end(path: Path, n_bytes: int) -> str:
    """Read the last bytes of a regular file as text; empty if the file cannot be read."""
    try:
        with open_regular(path) as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - n_bytes))
            return f.read(n_bytes).decode(errors="replace")
    except (FileNotFoundError, ValueError):
        return ""


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading.  Never blocks on a FIFO, a device or a socket.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a regular file, or not readable; names the path.
        OSError: If the file system fails in a way that may be transient.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NEVER_READABLE:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    return open(fd, "rb")


def read_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 text file of limited size; see :func:`read_bytes` for the errors."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} cannot be read: it is not UTF-8 text") from None


def finite(text: str) -> float:
    """Convert a number of a JSON file; raises ValueError if it is infinite or NaN."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def parse_object(text: str | bytes, *, number: Callable[[str], float] = finite) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        text: The object.
        number: Converts numbers that are not integers.  By default all of them are finite; with
            ``float``, NaN and infinite numbers are returned as such.

    Raises:
        ValueError: If the text is anything else: not JSON, nested too deeply, a list, a number
            that is thousands of digits long or that ``number`` refuses.

    Example:
        >>> parse_object('{"pauc": 0.5}')
        {'pauc': 0.5}
    """
    try:
        value = json.loads(text, parse_float=number, parse_constant=number)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def read_object(
    path: Path, max_bytes: int, *, number: Callable[[str], float] = finite
) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    See :func:`read_bytes` for the errors, and :func:`parse_object` for ``number``.
    """
    content = read_bytes(path, max_bytes)
    try:
        return parse_object(content, number=number)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


MAX_YAML_BYTES = 2**22
MAX_YAML_NODES = 300_000
"""Values in a YAML file, each alias counted as often as it is used."""
MAX_YAML_DEPTH = 50


def read_yaml(path: Path) -> Any:
    """Read a small YAML file; raises what :func:`read_bytes` raises.

    A few lines of aliases can stand for billions of values (``b: [*a, *a, *a]``, ``c: [*b, ...]``).
    They are counted before any is built.
    """
    import yaml

    text = read_text(path, MAX_YAML_BYTES)
    try:
        _refuse_bomb(text)
        return yaml.safe_load(text)
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError,
            AttributeError, yaml.YAMLError) as error:  # fmt: skip
        raise ValueError(f"{path} is not usable YAML ({printable(str(error), 300)})") from None


def _refuse_bomb(text: str) -> None:
    import yaml

    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
        anchor, size = None, 0
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} is not defined before it is used")
            size = sizes[event.anchor]
        if anchor is not None:
            sizes[anchor] = size
        parent, total = open_nodes[-1]
        open_nodes[-1] = parent, total + size
        if total + size > MAX_YAML_NODES or len(open_nodes) > MAX_YAML_DEPTH:
            raise ValueError(
                f"it has more than {MAX_YAML_NODES} values or {MAX_YAML_DEPTH} levels, counting "
                "each alias as often as it is used"
            )


def printable(text: str, max_length: int = 1000) -> str:
    """Return text as one line that a terminal or a CSV file can show safely.

    White space becomes single spaces.  Control characters, escape sequences, direction marks and
    lone surrogates become question marks.  Text beyond ``max_length`` is cut.

    Example:
        >>> printable("two" + chr(10) + "lines, " + chr(27) + "[31mred")
        'two lines, ?[31mred'
    """
    line = " ".join(text[: 4 * max_length].split())
    safe = "".join(c if c.isprintable() else "?" for c in line)
    return safe if len(safe) <= max_length else f"{safe[: max_length - 3]}..."
