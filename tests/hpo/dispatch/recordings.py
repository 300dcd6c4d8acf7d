"""Recorded answers of real batch systems, read from the folder beside the project."""

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"```console\n[$#] (?P<command>.*?)\n```\nexit code (?P<code>\d+) .*?\n\n"
    r"stdout:(?: \(empty\)|\n```text\n(?P<out>.*?)\n```)\n\n"
    r"stderr:(?: \(empty\)|\n```text\n(?P<err>.*?)\n```)\n",
    re.S,
)


@dataclass(frozen=True)
class Recording:
    """One command of a recorded session."""

    command: str
    code: int
    stdout: str
    stderr: str


def read_recordings(path: Path) -> dict[str, Recording]:
    """Read a file of recordings, keyed by command; of equal commands the first counts.

    A file has blocks of a console command, ``exit code N``, and stdout and stderr as fenced text.
    Where a command ends in ``echo rc=$?``, that is the exit code, and no output.
    """
    found: dict[str, Recording] = {}
    for match in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        out, code = match["out"] or "", int(match["code"])
        rc = re.search(r"^rc=(\d+)\n?", out, re.M)
        if "rc=$" in match["command"] and rc:
            code, out = int(rc[1]), out[: rc.start()] + out[rc.end() :]
        command = match["command"]
        found.setdefault(command, Recording(command, code, out, match["err"] or ""))
    return found
