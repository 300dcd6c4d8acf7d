"""Run a command of the batch system with a time limit, without interpreting its exit code."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch.base import MissingCommand, Unavailable


@dataclass(frozen=True)
class Answer:
    """Arguments, exit code and output of a command."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        said = " ".join(f"{self.stderr} {self.stdout}".split())
        if len(said) > 500:  # the command comes first, the reason last
            said = f"{said[:150]} ... {said[-350:]}"
        return f"{shlex.join(self.words)} exited with code {self.code}: {said or 'no output'}"


def ask(words: Sequence[str], timeout_s: float) -> Answer:
    """Run a command and wait for its answer.

    Raises:
        Unavailable: If it takes longer than ``timeout_s``, as with a frozen server, or cannot be
            started at the moment.
        MissingCommand: If the command does not exist.
    """
    try:
        run = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end a running qsub
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{shlex.join(words)} did not answer within {timeout_s:g} s") from None
    except FileNotFoundError:
        raise MissingCommand(
            f"the command {words[0]} is not on the PATH; load the module of the batch system, or "
            "choose another dispatcher"
        ) from None
    except OSError as error:  # too many processes or open files, or no memory
        raise Unavailable(f"{words[0]} could not be started: {error}") from None
    return Answer(tuple(words), run.returncode, run.stdout, run.stderr)


def user_name() -> str:
    """Return the name by which a batch system knows this user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container without a list of users
        return os.environ.get("USER", str(os.getuid()))


def look_up(words: Sequence[str], pattern: str, timeout_s: float) -> str:
    """Return the group of a pattern in the output of a command; empty if it does not match."""
    try:
        found = re.search(pattern, ask(words, timeout_s).stdout, re.M)
    except DispatchError:  # no answer, or no such command
        return ""
    return found[1] if found else ""
