"""Execute percent notebooks and write the .ipynb beside each, with its outputs.

    python tests/notebooks/execute.py notebooks/*.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import jupytext
import nbclient
import nbformat


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a percent file in a kernel of its own and return it with its outputs."""
    notebook = jupytext.read(path)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on a shared core only wait
    with tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            store_widget_state=False,
            record_timing=False,
        )
        client.execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random ids would change with every run
    notebook.metadata.pop("language_info", None)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    return notebook


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        jupytext.write(execute(path), path.with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
