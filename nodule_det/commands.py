"""The commands of ``nodule-det``, as one table.

    nodule-det hpo report study=DIR ──resolve()──▶ "hpo report", ["study=DIR"]
    "hpo report" ──load()──▶ main() of nodule_det/hpo/report/__main__.py

To add a command, write its module and add one line here.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from nodule_det.errors import ConfigError

COMMANDS = {
    "data": "Ingest CT scans into a store",
    "data names": "Map the results of an anonymised store back to the original scans",
    "data verify": "Compare the voxels of a store with their checksums",
    "train": "Train a network on a store",
    "predict": "Find nodule candidates in new scans",
    "export": "Write a network as TorchScript, torch.export, ONNX or a MONAI bundle",
    "crossval": "Train every fold of a store and pool the results",
    "evaluate": "Compute FROC figures from CSV files of any detector",
    "score": "Score a model on the test set of a store",
    "report": "Write an HTML report of a training run",
    "baseline": "Run a blob detector, for comparison",
    "demo": "Run the whole chain on phantom scans",
    "hpo": "Tune the hyper-parameters of a training on this machine or a cluster",
    "hpo init": "Write the files to start a study with, or an example for any program",
    "hpo status": "Show the trials of a study",
    "hpo report": "Write an HTML report of a study",
    "hpo show": "Show one trial and the command that reruns it",
    "hpo add": "Add points to try, or results of another study",
    "hpo cancel": "Cancel one trial",
    "hpo export": "Export the trials to CSV or Optuna",
    "hpo finish": "Cross-validate the best settings of a study and write a model",
    "hpo prune": "Free disk space of finished trials",
    "hpo simulate": "Compare tuning strategies on simulated trainings",
}
"""Name -> one line of help.  ``a b`` runs ``nodule_det.a.b``, a module or a package."""


def resolve(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split the words of a command line into a command and its arguments.

    Example:
        >>> resolve(["hpo", "report", "study=s"])
        ('hpo report', ['study=s'])

    Raises:
        ConfigError: If it does not start with the name of a command.
    """
    n = next((i for i, word in enumerate(words) if not _is_plain(word)), len(words))
    name = " ".join(words[:n])
    if name in COMMANDS:
        return name, list(words[n:])
    raise ConfigError(_unknown(words[:n]))


def _is_plain(word: str) -> bool:
    """Return True for a word that can only be part of a command's name."""
    return "=" not in word and not word.startswith(("-", "+", "~"))


def _unknown(words: Sequence[str]) -> str:
    if not words:
        return f"expected a command first: {', '.join(_first_words())}"
    name, parent = " ".join(words), " ".join(words[:-1])
    near = difflib.get_close_matches(name.replace(".", " ").replace("-", " "), COMMANDS, 2, 0.75)
    hint = f"; did you mean {' or '.join(n for n in near if n != parent)}? " if near else "; "
    if parent in COMMANDS:
        what = f"'{words[-1]}' is not a sub-command of {parent}"
        if near in ([], [parent]):
            return f"{what}, and settings are NAME=VALUE, such as {words[-1]}=VALUE"
    else:
        what = f"'{name}' is not a command"
    return f"{what}{hint}nodule-det --help lists all"


def _first_words() -> list[str]:
    return [name for name in COMMANDS if " " not in name]


def sub_commands(name: str) -> dict[str, str]:
    """Return the sub-commands of a command; all commands for an empty name."""
    return {key: text for key, text in COMMANDS.items() if key.startswith(f"{name} ".lstrip())}


def listing(names: dict[str, str]) -> str:
    """Format commands and their help as two columns."""
    width = max(map(len, names))
    return "\n".join(f"  {name:{width}}  {text}" for name, text in names.items())


class Main(Protocol):
    """The main function of a command's module (see ``cli.Command``)."""

    @property
    def schema(self) -> type:
        """The dataclass of its settings."""

    def __call__(self) -> None:
        """Run the command on ``sys.argv``."""


def load(name: str) -> Main:
    """Import the module of a command and return its main function."""
    dotted = f"nodule_det.{name.replace(' ', '.')}"
    spec = find_spec(dotted)
    is_package = spec is not None and spec.submodule_search_locations is not None
    main: Main = import_module(f"{dotted}.__main__" if is_package else dotted).main
    return main
