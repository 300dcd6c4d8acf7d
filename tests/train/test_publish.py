"""The tables of a run folder reproduce its figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nodule_det.analysis import analyse
from nodule_det.evaluate import __main__ as evaluate
from nodule_det.froc import Candidates, Lesions, match
from nodule_det.runs import RunFolder
from nodule_det.tables import ANNOTATION_COLUMNS, CANDIDATE_COLUMNS, PATIENT, SERIES, read_table
from nodule_det.train.run import run
from tests.train.tiny_run import tiny


def points(table):
    return np.stack([table.numbers(f"coord{axis}") for axis in "XYZ"], axis=1)


def lesions(path):
    table = read_table(path, ANNOTATION_COLUMNS)
    return Lesions(np.array(table.text(SERIES)), points(table), table.numbers("diameter_mm"))


def test_the_tables_of_a_folder_reproduce_its_froc(store, tmp_path):
    run(tiny(store, tmp_path, epochs=1))
    folder = RunFolder(tmp_path)
    found = read_table(folder.candidates, CANDIDATE_COLUMNS)
    scans = read_table(folder.scans, [SERIES, PATIENT])
    patients = dict(zip(scans.text(SERIES), scans.text(PATIENT), strict=True))
    matched = match(
        scans.text(SERIES),
        lesions(folder.annotations),
        Candidates(np.array(found.text(SERIES)), points(found), found.numbers("probability")),
        lesions(folder.excluded),
    )
    froc = analyse(matched, bootstrap=100, seed=0, patients=patients)
    again = json.loads(json.dumps(froc.as_dict()))
    assert again == json.loads(folder.froc.read_text())
    assert (again["n_lesions"], again["n_patients"]) == (6, 3)
    assert "texture" in read_table(folder.annotations, ANNOTATION_COLUMNS).columns


def test_the_evaluate_command_reproduces_the_figures_of_a_run_folder_exactly(
    store, tmp_path, monkeypatch, capsys
):
    run(tiny(store, tmp_path / "run", epochs=1))
    folder = RunFolder(tmp_path / "run")
    words = ("candidates", "annotations", "scans", "excluded")
    given = [f"{word}={getattr(folder, word)}" for word in words]
    out = tmp_path / "again"
    monkeypatch.setattr("sys.argv", ["evaluate", *given, f"out={out}", "bootstrap=100"])
    with pytest.raises(SystemExit) as left:
        evaluate.main()
    assert left.value.code == 0, capsys.readouterr().err
    again = json.loads((out / "froc.json").read_text())
    figures = json.loads(folder.froc.read_text())
    assert figures["n_lesions"] == 6
    assert {name: again[name] for name in figures} == figures
