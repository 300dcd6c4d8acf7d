"""The list of scans with any header, and the patients of the scans."""

import re

import pytest

from nodule_det.errors import ConfigError, TableError
from nodule_det.evaluate.scans import read_patients, read_scans

KNOWN = {"1.2.1", "1.2.2"}


def scans(tmp_path, text, known=KNOWN):
    path = tmp_path / "scans.csv"
    path.write_text(text)
    return read_scans(path, known)


@pytest.mark.parametrize(
    "header",
    ["", "seriesuid\n", "series_uid\n", "SeriesInstanceUID\n", "Series Instance UID\n", "\ufeff"],
)
def test_a_header_is_not_a_scan(header, tmp_path):
    assert scans(tmp_path, f"{header}1.2.1\n1.2.3\n").cases.tolist() == ["1.2.1", "1.2.3"]


@pytest.mark.parametrize("header", ["scan", "ids", "uid", "Bild", "case name", "file"])
def test_a_first_line_that_no_other_file_knows_is_refused(header, tmp_path):
    words = f"starts with '{header}', which looks like a header"
    with pytest.raises(TableError, match=words):
        scans(tmp_path, f"{header}\n1.2.1\n1.2.3\n")


def test_ids_without_digits_are_ids(tmp_path):
    assert scans(tmp_path, "alpha\nbeta\n", {"beta"}).cases.tolist() == ["alpha", "beta"]
    assert scans(tmp_path, "alpha\n1.2.1\n", {"alpha"}).cases.tolist() == ["alpha", "1.2.1"]


def test_quotes_and_blanks_are_taken_off(tmp_path):
    assert scans(tmp_path, '"1.2.1"\n\n 1.2.3 \n').cases.tolist() == ["1.2.1", "1.2.3"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n", "is empty: it needs the id of every evaluated scan"),
        ("1.2.1,5\n", "has several columns but no header with seriesuid: '1.2.1,5'"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(text, words, tmp_path):
    with pytest.raises(TableError, match=re.escape(words)):
        scans(tmp_path, text)


def test_a_column_patient_is_used_by_itself(tmp_path):
    listed = scans(tmp_path, "seriesuid,patient,site\n1.2.1,P,x\n1.2.2,P,y\n")
    assert read_patients("", listed) == {"1.2.1": "P", "1.2.2": "P"}
    assert read_patients("site", listed) == {"1.2.1": "x", "1.2.2": "y"}


def test_without_a_column_no_patient_is_named(tmp_path):
    assert read_patients("", scans(tmp_path, "1.2.1\n")) is None
    assert read_patients("", scans(tmp_path, "seriesuid,site\n1.2.1,x\n")) is None


def test_patients_come_from_a_file_of_their_own(tmp_path):
    (tmp_path / "p.csv").write_text("seriesuid,patient\n1.2.1,P\n1.2.2,Q\n1.2.1,P\n")
    assert read_patients(str(tmp_path / "p.csv"), scans(tmp_path, "1.2.1\n")) == {
        "1.2.1": "P",
        "1.2.2": "Q",
    }


def test_two_patients_of_one_scan_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("seriesuid,patient\n1.2.1,P\n1.2.1,Q\n")
    with pytest.raises(TableError, match=r"names two patients of scan 1\.2\.1: 'P' and 'Q'"):
        read_patients(str(tmp_path / "p.csv"), scans(tmp_path, "1.2.1\n"))


def test_a_setting_that_is_neither_file_nor_column_is_refused(tmp_path):
    listed = scans(tmp_path, "seriesuid,site\n1.2.1,x\n")
    words = "patients=who is neither a file nor a column of the list of scans (seriesuid, site)"
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_patients("who", listed)
