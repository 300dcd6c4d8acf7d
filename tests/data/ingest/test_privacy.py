"""What ingest says about names, identities and unknown patients before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nodule_det.data.ingest.privacy import privacy_notes, scrubber
from nodule_det.data.readers.read import find_scans
from nodule_det.data.scan import ScanEntry
from tests.data.chests import GRID, chest_hu
from tests.data.scan_files import write_series


def notes(source, **changes):
    entries = find_scans(source)
    return privacy_notes(entries, **({"anonymise": False, "patients": False} | changes))


def series(folder, number, **tags):
    write_series(folder, chest_hu()[:3], GRID, t0020_000e=f"1.2.{number}", **tags)


def test_scans_that_are_not_marked_as_de_identified_are_counted(tmp_path):
    series(tmp_path / "a", 1, t0010_0020="1")
    series(tmp_path / "b", 2, t0010_0020="2", t0012_0062="YES")
    (note,) = notes(tmp_path)
    assert note.startswith("1 of 2 scans is not marked as de-identified (PatientIdentityRemoved")
    assert notes(tmp_path, anonymise=True) == []


def test_burned_in_text_is_said_even_if_the_scan_is_anonymised(tmp_path):
    series(tmp_path, 1, t0012_0062="YES", t0028_0301="YES")
    (note,) = notes(tmp_path, anonymise=True)
    assert "1 of 1 scan has text burned into the pixels" in note


@pytest.mark.parametrize("patient", ["", "ANONYMOUS"])
def test_patients_that_are_unknown_or_all_the_same_are_said(tmp_path, patient):
    for number in (1, 2, 3):
        series(tmp_path / str(number), number, t0010_0020=patient, t0012_0062="YES")
    (note,) = notes(tmp_path)
    expected = "all 3 DICOM scans have the same PatientID" if patient else "3 of 3 DICOM scans have"
    assert note.startswith(expected)
    assert "patients=FILE.csv" in note
    assert notes(tmp_path, patients=True) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Müller_Jürgen", True), ("Miller, Anna", True), ("MILLER^ANNA", True),
        ("ct_1956-03-21", True), ("scan_19560321", True), ("lung_001", False), ("scan0", False),
        ("1.3.6.1.4.1.14519.5.2.1.6279.6001.105756658031515062000744821260", False),
        ("LIDC-IDRI-0314", False),
    ],
)  # fmt: skip
def test_a_name_that_looks_like_a_persons_is_noticed(name, said):
    entries = [ScanEntry(name, Path(f"{name}.nii.gz"), "p")]
    found = privacy_notes(entries, anonymise=False, patients=False)
    assert bool(found) == said
    assert not any(name in note for note in found)


def test_files_without_patients_are_noticed_unless_a_table_or_the_layout_says_more():
    entries = [ScanEntry(name, Path(f"{name}.nii.gz"), name) for name in ("a", "b")]
    (note,) = privacy_notes(entries, anonymise=True, patients=False)
    assert note.startswith("2 of 2 scans are in a format without patient numbers")
    assert "patients=FILE.csv" in note
    assert privacy_notes(entries[:1], anonymise=True, patients=False) == []
    assert privacy_notes(entries, anonymise=True, patients=True) == []
    in_subsets = [replace(entry, fold=0) for entry in entries]
    assert privacy_notes(in_subsets, anonymise=True, patients=False) == []


def test_a_message_loses_the_folder_of_the_data_set(tmp_path):
    (tmp_path / "Ward 3/a").mkdir(parents=True)
    entry = ScanEntry("a", tmp_path / "Ward 3/a", "p")
    scrub = scrubber(tmp_path, entry)
    assert scrub(f"{tmp_path}/Ward 3/a/1.dcm (z = 3 mm) is cut") == "1.dcm (z = 3 mm) is cut"
    assert str(tmp_path) not in scrub(f"{tmp_path} holds no scan")
