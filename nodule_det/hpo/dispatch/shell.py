"""Run a command of the batch system: with a time limit, and nothing read into its exit code."""

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
    """What a command said."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        said = " ".join(f"{self.stderr} {self.stdout}".split())
        if len(said) > 500:  # the command comes first, the reason last
            said = f"{said[:150]} ... {said[-350:]}"
        return f"{shlex.join(self.words)} left with {self.code}: {said or 'no word'}"


def ask(words: Sequence[str], timeout_s: float) -> Answer:
    """Run a command and wait for its answer.

    Raises:
        Unavailable: If it takes longer than ``timeout_s``, for a frozen server never answers, or
            cannot be started for now.
        MissingCommand: If there is no such command.
    """
    try:
        run = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the driver, not for a qsub under way
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{shlex.join(words)} gave no answer in {timeout_s:g} s") from None
    except FileNotFoundError:
        raise MissingCommand(
            f"there is no command {words[0]} here; load the batch system's module, or choose "
            "another dispatcher"
        ) from None
    except OSError as error:  # no process, no memory, no more open files
        raise Unavailable(f"{words[0]} could not be started: {error}") from None
    return Answer(tuple(words), run.returncode, run.stdout, run.stderr)


def user_name() -> str:
    """Return the name by which a batch system knows this user."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container without a list of users
        return os.environ.get("USER", str(os.getuid()))


def look_up(words: Sequence[str], pattern: str, timeout_s: float) -> str:
    """Find the group of a pattern in what a command says; empty without such an answer."""
    try:
        found = re.search(pattern, ask(words, timeout_s).stdout, re.M)
    except DispatchError:  # no answer, or no such command here
        return ""
    return found[1] if found else ""
