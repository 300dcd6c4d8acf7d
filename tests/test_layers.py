"""Who may import whom: the table of CONTRIBUTING.md, held to by the source."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "nodule_det"
MAY_IMPORT = {
    "errors": "",
    "config": "errors",
    "geometry": "errors",
    "runs": "errors",
    "tables": "errors runs",
    "froc": "errors",
    "cli": "errors config",
    "progress": "errors",
    "candidates": "errors geometry config tables",
    "markups": "runs candidates",
    "figures": "errors runs froc",
    "evaluate": "errors config cli froc tables runs figures progress",
    "data": "errors geometry config cli runs tables progress",
    "model": "errors config",
    "checkpoint": "errors config runs model",
    "findings": "errors geometry runs candidates data froc",
    "inference": "errors geometry config candidates data model",
    "baseline": "errors geometry config cli tables progress candidates data",
    "train": "errors geometry config cli runs tables progress froc figures findings candidates "
    "data model checkpoint inference",
    "predictions": "errors runs candidates markups data",
    "predict": "errors geometry config cli runs progress candidates markups predictions data model "
    "checkpoint inference",
    "hpo": "errors config cli runs progress",
    "report": "errors geometry config cli runs tables progress froc figures evaluate data",
    "demo": "errors config cli runs tables progress froc figures candidates data evaluate baseline",
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "nodule_det":
            yield from (f"nodule_det.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            yield node.module


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_follow_the_table(path):
    here = path.relative_to(SRC).with_suffix("").parts[0]
    if here != "__init__":
        there = {name.split(".")[1] for name in imported(path) if name.startswith("nodule_det.")}
        assert there - {here, "__version__"} <= set(MAY_IMPORT[here].split())
