"""The end of a job's log, where batch systems and trainings write their last message."""

from __future__ import annotations

import re
from pathlib import Path

from nodule_det.untrusted import printable, read_end

TAIL_BYTES = 65_536
_ERROR = re.compile(
    r"^.*\berror: .*$|^[\w.]+(Error|Exception)\b.*$|^.*: (command not found|Permission denied)$",
    re.M | re.I,
)
"""How this package, Python, compilers and shells report an error."""


def read_tail(attempt_dir: Path) -> str:
    """Read the end of ``job.log``; empty if it does not exist (yet)."""
    return read_end(attempt_dir / "job.log", TAIL_BYTES)


def last_error(log: str) -> str | None:
    """Return the last line of a log that reports an error; None if there is none.

    The prefix of this package's commands is removed: the message follows the reason of a failure.
    """
    lines = [match[0].strip() for match in _ERROR.finditer(log)]
    return printable(lines[-1].removeprefix("error: "), 500) if lines else None
