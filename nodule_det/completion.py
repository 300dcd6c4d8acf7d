"""Tab completion in bash: commands, settings, their possible values, and files.

"nodule-det train dev" ──complete()──▶ "device="
"nodule-det train device=c" ──complete()──▶ "device=cpu ", "device=cuda "
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from glob import escape, glob
from pathlib import Path
from typing import Any

from nodule_det.commands import COMMANDS, load, resolve
from nodule_det.config.fields import settings
from nodule_det.config.files import groups
from nodule_det.errors import ConfigError

FLAGS = ("--help", "--version", "--cfg", "--multirun")

BASH = r"""_nodule_det() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n'
    COMPREPLY=($(nodule-det --complete "$line" 2>/dev/null))
    # Readline replaces only what follows the last break character, such as "=".
    local word=${line##*[[:space:]]}
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[$COMP_WORDBREAKS]}"}"}")
}
complete -o nospace -F _nodule_det nodule-det
"""


def script(shell: str) -> str:
    """Return the lines that a shell evaluates to complete ``nodule-det``.

    Raises:
        ConfigError: If there are none for this shell.
    """
    if shell != "bash":
        raise ConfigError(f"--completion {shell} is not available; use --completion bash")
    return BASH


def complete(line: str) -> list[str]:
    """Return the completions of the last word of a command line; complete words end in a space.

    Args:
        line: The line up to the cursor, with the name of the program.
    """
    *typed, last = line.split()[1:] if line[-1:].strip() else [*line.split()[1:], ""]
    found = dict.fromkeys(_candidates(typed, last))  # each once, in order
    return [word for word in found if word.startswith(last)]


def _candidates(typed: Sequence[str], last: str) -> Iterator[str]:
    before = len(typed)
    for name in COMMANDS:
        words = name.split()
        if words[:before] == [*typed] and len(words) > before:
            yield f"{words[before]} "
    try:
        command, _ = resolve(typed)
    except ConfigError:
        return
    if last.startswith("-"):
        yield from (f"{flag} " for flag in FLAGS)
        return
    choices = groups(command)
    known = {name: default for name, (default, _) in settings(load(command).schema)}
    name, equals, value = last.partition("=")
    if not equals:
        yield from (f"{key}=" for key in (*known, *choices))
    elif name in choices:
        yield from (f"{name}={choice} " for choice in choices[name])
    elif name in known:
        yield from (f"{name}={text}" for text in _values(known[name], value))


def _values(default: Any, value: str) -> list[str]:
    """Return the possible values of a setting: its choices, or files if it is a text."""
    if isinstance(default, Enum):
        return [f"{choice.value} " for choice in type(default)]
    if isinstance(default, bool):
        return ["true ", "false "]
    if default is None or isinstance(default, str):
        paths = sorted(glob(f"{escape(value)}*"))
        return [f"{path}/" if Path(path).is_dir() else f"{path} " for path in paths]
    return []
