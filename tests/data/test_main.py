"""``python -m nodule_det.data`` as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nodule_det.data.store import open_store


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "nodule_det.data", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_phantom_scans_are_made_beside_the_store_and_ingested_as_any_others(tmp_path):
    words = (
        "source=phantom",
        f"out={tmp_path / 'store'}",
        "phantom.n_scans=2",
        "phantom.size_vox=[64,96,96]",
        "phantom.folds=2",
        "phantom.nodules_per_scan=2",
        "workers=1",
    )
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{tmp_path / 'store'}: 2 scans with " in done.stdout
    assert f"picture: {tmp_path / 'store/summary.png'}" in done.stdout
    assert (tmp_path / "store-source/subset0").is_dir()
    store = open_store(tmp_path / "store")
    assert store.folds == (0, 1)
    made = [p.stat().st_mtime_ns for p in sorted((tmp_path / "store/scans").iterdir())]
    again = run(*words)
    assert again.stdout == done.stdout
    assert made == [p.stat().st_mtime_ns for p in sorted((tmp_path / "store/scans").iterdir())]
    assert json.loads((tmp_path / "store/splits.json").read_text())["how"] == {
        "by": "the layout's own folds"
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("store.spacing_m=1", "unknown setting store.spacing_m; did you mean store.spacing_mm"),
        ("store.spacing_mm=9", "store.spacing_mm=9.0"),
        ("source=/nowhere", "source=/nowhere is not a folder"),
    ],
)
def test_a_wrong_word_is_one_line_and_makes_nothing(tmp_path, word, message):
    done = run(word, f"out={tmp_path / 'store'}")
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
