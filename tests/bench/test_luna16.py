"""The checks of a LUNA16 store, and the commands of docs/luna16.md on four chests."""

import csv
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bench import luna16
from nodule_det.data.store import open_store
from nodule_det.runs import RunFolder
from tests.crossval.run_crossval import crossval
from tests.data.chests import GRID, chest_hu, lesion_row
from tests.data.chests import HEADER as COLUMNS
from tests.data.scan_files import write_file

HEADER = "seriesuid,coordX,coordY,coordZ"


def test_nodules_inside_the_lungs_are_counted_and_others_named(three_folds, monkeypatch):
    store = open_store(three_folds)
    monkeypatch.setattr(luna16, "BACKWARDS", (".0", ".5"))
    assert luna16.inside(store) == [
        "all scans: 6, nodules inside the lungs 12 of 12",
        "backward scans: 2, nodules inside the lungs 4 of 4",
    ]
    assert len(set(luna16.BACKWARDS)) == 2


def test_the_distance_of_a_found_nodule_is_that_of_its_nearest_candidate(tmp_path):
    run = RunFolder(tmp_path)
    run.scans.write_text("seriesuid\na\nb\n")
    run.annotations.write_text(f"{HEADER},diameter_mm\na,0,0,0,10\nb,0,0,0,5\n")
    run.excluded.write_text(f"{HEADER},diameter_mm\n")
    run.candidates.write_text(f"{HEADER},probability\na,0,0,3,0.9\na,2,0,0,0.5\nb,9,0,0,0.9\n")
    lines = luna16.centres(run)
    assert lines[0] == "0-6 mm: 0 of 1 found, median -"
    assert lines[2] == "8-15 mm: 1 of 1 found, median 2.00 mm"


SUBSETS = (0, 3, 4, 5)
BACKWARDS, NORMAL = 3, 4
"""Subset of the scan that runs backwards in x and y, and subset without lesions."""


def uid(number):
    return f"1.3.6.1.4.1.14519.5.2.1.6279.6001.{number}00{luna16.BACKWARDS[number]}"


def command(name, *words):
    done = subprocess.run(
        [sys.executable, "-m", f"nodule_det.{name}", *words],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def points(path, name):
    """Return the world coordinates of a scan's candidates, in order of their scores."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["seriesuid"] == name]
    rows.sort(key=lambda row: -float(row["probability"]))
    return np.array([[float(row[f"coord{axis}"]) for axis in "XYZ"] for row in rows])


@pytest.fixture(scope="module")
def four_subsets(tmp_path_factory):
    """Write chests as LUNA16 does: plain and compressed, one of them backwards."""
    root = tmp_path_factory.mktemp("luna16") / "LUNA16"
    for k in SUBSETS:
        volume, grid = chest_hu(k), GRID
        if k == BACKWARDS:
            _, y, x = GRID.size_vox
            corner = tuple(GRID.to_world((0, y - 1, x - 1)).tolist())
            turned = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
            volume = np.ascontiguousarray(volume[:, ::-1, ::-1])
            grid = replace(GRID, origin_mm=corner, direction=turned)
        write_file(root / f"subset{k}" / f"{uid(k)}.mhd", volume, grid, compress=k % 2 == 1)
    header = (root / f"subset{BACKWARDS}" / f"{uid(BACKWARDS)}.mhd").read_text()
    assert "TransformMatrix = -1 0 0 0 -1 0 0 0 1" in header
    rows = [lesion_row(uid(k)) for k in SUBSETS if k != NORMAL]
    (root / "annotations.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    (root / "annotations_excluded.csv").write_text(f"{COLUMNS}\n{uid(0)},40,0,-210,-1\n")
    (root / "candidates_V2.csv").write_text(f"{HEADER},class\n{uid(0)},0,0,-210,0\n")
    (root / "seriesuids.csv").write_text("".join(f"{uid(k)}\n" for k in SUBSETS))
    return root


def test_the_documented_commands_lead_from_the_download_to_predictions(four_subsets, tmp_path):
    store, cv = tmp_path / "store", tmp_path / "cv"
    command("data", f"source={four_subsets}", f"out={store}")
    assert luna16.inside(open_store(store)) == [
        "all scans: 4, nodules inside the lungs 3 of 3",
        "backward scans: 4, nodules inside the lungs 3 of 3",
    ]

    settings = ("protocol=luna16", f"folds=[{BACKWARDS}]", "train.limits.epochs=1")
    text = crossval(store, cv, *settings, "train.patches.per_epoch=4").stdout
    assert f"fold {BACKWARDS}: 1 lesion in 1 scan, pAUC " in text
    (run,) = (cv / "trainings" / "trials").iterdir()
    words = (run / "overrides.txt").read_text().split()
    assert f"fold={NORMAL + 1}" in words  # the next fold has no lesions
    assert "augment.mirror=true" in words

    files, out = cv / "luna16", tmp_path / "evaluation"
    names = {"candidates": "submission", "annotations": "annotations", "scans": "seriesuids"}
    names["excluded"] = "annotations_excluded"
    tables = [f"{setting}={files / name}.csv" for setting, name in names.items()]
    evaluated = command("evaluate", *tables, "compat=luna16", "bootstrap=50", f"out={out}")
    assert "of 1 lesion detected in 1 scan" in evaluated
    scans, out = four_subsets / f"subset{BACKWARDS}", tmp_path / "predictions"
    command("predict", f"model={cv / 'model'}", f"input={scans}", f"out={out}", "precision=fp32")
    predicted = points(out / "candidates.csv", uid(BACKWARDS))
    scored = points(files / "submission.csv", uid(BACKWARDS))
    np.testing.assert_allclose(predicted[:20], scored[:20], atol=0.01)
