"""The public API: complete, lazy, and as docs/python.md shows it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import nodule_det
from tests.conftest import REPOSITORY
from tests.train.tiny_run import write_tiny_store

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_public_name_is_found_and_no_other():
    for name in nodule_det.__all__:
        assert getattr(nodule_det, name) is not None
        assert name in dir(nodule_det)
    with pytest.raises(AttributeError, match="module 'nodule_det' has no attribute 'nothing'"):
        nodule_det.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "monai", "numpy", "scipy", "SimpleITK", "matplotlib")
    code = f"import nodule_det, sys; print([n for n in {heavy!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_snippets_of_the_python_page_run(tmp_path, monkeypatch, capsys):
    store = tmp_path / "stores" / "phantom"
    store.mkdir(parents=True)
    write_tiny_store(store, scans=3, folds=2)
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8"))
    assert len(blocks) == 4
    exec(compile("\n".join(blocks), "docs/python.md", "exec"), names := {})
    said = capsys.readouterr().out
    assert "1.2.0 (48, 56, 64) 2 lesions" in said
    assert "reach 3 voxels, stride 1" in said  # kernels of 5 and 3
    assert f"pAUC {names['result'].froc.pauc}" in said
    assert names["result"].froc.n_lesions == 4
