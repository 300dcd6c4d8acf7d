"""Print the table of sizes in design.md: lines per module and function of two commits.

python docs/design_figures.py 59d8a5c HEAD
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import numpy as np


def sources(commit: str) -> dict[str, str]:
    """Return the text of every module of the package at a commit, by path."""
    archive = subprocess.run(
        ["git", "archive", commit, "nodule_det"], capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            member.name: tar.extractfile(member).read().decode()
            for member in tar.getmembers()
            if member.isfile() and member.name.endswith(".py")
        }


def function_lines(text: str) -> Iterator[int]:
    """Yield the lines of each function and method, docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node.end_lineno - node.lineno + 1


def spread(lines: list[int]) -> str:
    """Format median, 90th percentile and maximum."""
    median, p90 = np.percentile(lines, [50, 90]).round().astype(int)
    return f"{median} / {p90} / {max(lines)}"


def row(commit: str) -> list[str]:
    """Return the figures of one commit."""
    modules = {path: text for path, text in sources(commit).items() if text.strip()}
    functions = [n for text in modules.values() for n in function_lines(text)]
    in_hpo = [p for p in modules if p.startswith("nodule_det/hpo/") and p.count("/") == 2]
    return [
        str(len(modules)),
        spread([text.count("\n") for text in modules.values()]),
        str(len(functions)),
        spread(functions),
        str(len([p for p in in_hpo if not p.endswith("__init__.py")])),
    ]


def main() -> None:
    """Print the table as Markdown."""
    names = [
        "modules",
        "lines per module, median / p90 / max",
        "functions",
        "lines per function, median / p90 / max",
        "modules directly in `hpo/`, beside `__init__`",
    ]
    before, after = (row(commit) for commit in sys.argv[1:3])
    print("| | before (59d8a5c) | now |\n| --- | --- | --- |")
    for name, old, new in zip(names, before, after, strict=True):
        print(f"| {name} | {old} | {new} |")


if __name__ == "__main__":
    main()
