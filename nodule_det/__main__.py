"""``nodule-det COMMAND [NAME=VALUE ...]``, or ``python -m nodule_det``: every command by its name.

Without a command it lists them.
"""

from __future__ import annotations

import sys

from nodule_det import __version__
from nodule_det.commands import COMMANDS, listing, load, resolve
from nodule_det.errors import ConfigError, ExitCode

USAGE = """nodule-det COMMAND [NAME=VALUE ...]

{commands}

nodule-det COMMAND --help      lists the settings of a command
nodule-det --completion bash   prints a script for tab completion: add to ~/.bashrc
                               eval "$(nodule-det --completion bash)"
nodule-det --version           prints the version
"""


def main() -> None:
    """Run the command named by the arguments, and exit with its code."""
    words = sys.argv[1:]
    match words:
        case [] | ["-h" | "--help" | "help"]:
            print(USAGE.format(commands=listing(COMMANDS)), end="")
        case ["--version"]:
            print(f"nodule_det {__version__}")
        case ["--completion", shell]:
            _print_script(shell)
        case ["--complete", line]:
            from nodule_det.completion import complete

            print("\n".join(complete(line)))
        case _:
            _run(words)


def _run(words: list[str]) -> None:
    try:
        name, arguments = resolve(words)
    except ConfigError as error:
        _refuse(error)
    sys.argv = [f"nodule-det {name}", *arguments]
    load(name)()


def _print_script(shell: str) -> None:
    from nodule_det.completion import script

    try:
        print(script(shell), end="")
    except ConfigError as error:
        _refuse(error)


def _refuse(error: ConfigError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(ExitCode.BAD_INPUT)


if __name__ == "__main__":
    main()
