"""Each notebook runs, and the executed copy beside it has the same cells, with pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from tests.notebooks.execute import execute

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
LARGEST = 300_000
"""Bytes of an executed notebook: GitHub shows larger ones late or not at all."""


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda p: p.stem)


@named(NOTEBOOKS)
def test_a_notebook_runs_to_its_end(path):
    notebook = execute(path)
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "stream" and o.name == "stderr"]


@named(NOTEBOOKS)
def test_the_executed_copy_has_the_same_cells(path):
    source, copy = jupytext.read(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    cells = [[(cell.cell_type, cell.source) for cell in book.cells] for book in (source, copy)]
    assert cells[0] == cells[1], f"run python tests/notebooks/execute.py notebooks/{path.name}"


@named(sorted(FOLDER.glob("*.ipynb")))
def test_the_executed_copy_shows_figures_and_no_error(path):
    assert path.with_suffix(".py") in NOTEBOOKS
    text = path.read_text()
    assert len(text.encode()) < LARGEST
    code = [c for c in nbformat.reads(text, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [o for cell in code for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    kinds = {kind for o in outputs for kind in o.get("data", {})}
    assert kinds & {"image/png", "image/svg+xml"}
    assert "/tmp/" not in text
    assert str(FOLDER.parent) not in text


@named(NOTEBOOKS)
def test_the_first_cell_opens_a_run_of_your_own(path):
    assert jupytext.read(path).cells[0].source.startswith("RUN = None  # or ")


def test_a_run_of_your_own_is_opened(tmp_path):
    """Set RUN of the analysis of one detector to a run folder's tables."""
    from nodule_det.evaluate.example import write_example
    from nodule_det.runs import RunFolder

    files, run = write_example(tmp_path, n_scans=20), RunFolder(tmp_path / "run")
    run.path.mkdir()
    for source, target in (
        (files.first, run.candidates),
        (files.annotations, run.annotations),
        (files.scans, run.scans),
        (files.excluded, run.excluded),
    ):
        target.write_bytes(source.read_bytes())
    text = (FOLDER / "froc_analysis.py").read_text()
    mine = tmp_path / "mine.py"
    mine.write_text(text.replace("RUN = None", f"RUN = {str(run.path)!r}", 1))
    outputs = [o for c in execute(mine).cells if c.cell_type == "code" for o in c.outputs]
    assert any("in 20 scans" in str(o) for o in outputs)


def test_the_script_writes_what_the_test_compares(tmp_path):
    source = tmp_path / "small.py"
    source.write_text("# %%\n1 + 1\n")
    script = Path(__file__).with_name("execute.py")
    subprocess.run([sys.executable, str(script), str(source)], check=True, capture_output=True)
    (cell,) = nbformat.read(tmp_path / "small.ipynb", as_version=4).cells
    assert cell.outputs[0].data["text/plain"] == "2"


def test_there_are_five_notebooks():
    assert {p.stem for p in NOTEBOOKS} == {
        "froc_analysis",
        "compare_models",
        "study_analysis",
        "luna16_submission",
        "own_detector",
    }
