"""Patients by hand: a table that says which scans belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodule_det.data.ingest.patients import with_patients
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import TableError

ENTRIES = [ScanEntry(uid, Path(f"{uid}.nii.gz"), uid) for uid in ("a", "b", "c")]


def table(tmp_path, *rows):
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(["seriesuid,patient", *rows]) + "\n")
    return path


def test_scans_of_one_patient_get_one_key_that_is_not_the_name(tmp_path):
    a, b, c = with_patients(ENTRIES, table(tmp_path, "a,Miller", "b,Smith", "c,Miller", "x,Other"))
    assert a.patient_key == c.patient_key != b.patient_key
    assert "Miller" not in a.patient_key


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,1", "b,2"], "lacks 1 of 3 scans, the first is c"),
        (["a,1", "b,2", "c,"], "line 4: c has no patient"),
        (["a,1", "b,2", "c,3", "c,4"], "line 5: c has two patients"),
    ],
)
def test_a_table_that_leaves_a_scan_open_is_refused(tmp_path, rows, message):
    with pytest.raises(TableError, match=message):
        with_patients(ENTRIES, table(tmp_path, *rows))
