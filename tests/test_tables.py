"""CSV files in all the dialects that users send."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.errors import TableError
from nodule_det.tables import ANNOTATION_COLUMNS, read_table, write_table

HEADER = ",".join(ANNOTATION_COLUMNS)


def table(tmp_path, text, required=ANNOTATION_COLUMNS, **options):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, required, **options)


def test_luna16_rows_are_read_unchanged(tmp_path):
    read = table(tmp_path, f"{HEADER}\n1.3.6,-57.4,131.2,-520.3,15.4\n")
    assert read.text("seriesuid") == ["1.3.6"]
    np.testing.assert_array_equal(read.numbers("coordX"), [-57.4])
    assert read.line == [2]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + f"{HEADER}\n1.2,1,2,3,4\n".encode(),
        f"{HEADER}\r\n\r\n1.2,1,2,3,4\r\n\r\n",
        f"{HEADER}\n1.2,1,2,3,4\n".replace(",", ";"),
        f"{HEADER}\n1.2,1,2,3,4\n".replace(",", "\t"),
        f"extra,{HEADER}\nx, 1.2 ,1,2,3,4\n",
        f'{HEADER}\n"1.2","1",2,3,4',
    ],
    ids=["bom", "crlf and blank lines", "semicolons", "tabs", "blanks", "quotes, no last newline"],
)
def test_every_dialect_gives_the_same_table(tmp_path, text):
    read = table(tmp_path, text)
    assert read.text("seriesuid") == ["1.2"]
    assert [read.numbers(c)[0] for c in ANNOTATION_COLUMNS[1:]] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"a\.csv is empty: it needs a header line seriesuid,coordX"),
        (" \n\n", r"a\.csv is empty"),
        (f"{HEADER}\n", r"a\.csv has a header but no rows"),
        ("uid,x,y,z\n1,2,3,4\n", r"lacks the column seriesuid, coordX.*header is 'uid,x,y,z'"),
        (f"{HEADER}\n1.2,1,2,3\n", r"line 2 has 4 cells, its header has 5"),
        (f"{HEADER},coordX\n1.2,1,2,3,4,5\n", r"has the column coordX twice"),
        (b"\xff\xfe\x00\x01", r"cannot be read as UTF-8 text"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, text, words):
    with pytest.raises(TableError, match=words):
        table(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv does not exist"):
        read_table(tmp_path / "none.csv", ["a"])


def test_text_in_a_column_of_numbers_is_reported_with_its_line(tmp_path):
    read = table(tmp_path, f"{HEADER}\n1.2,1,2,3,4\n\n1.2,1,2,three,4\n")
    with pytest.raises(TableError, match=r"a\.csv line 4: coordZ='three' is not a number"):
        read.numbers("coordZ")


def test_decimal_commas_are_explained(tmp_path):
    read = table(tmp_path, f"{HEADER}\n1.2,1,2,3,4\n".replace(",", ";").replace("4", "4,5"))
    with pytest.raises(TableError, match="write decimals with a point"):
        read.numbers("diameter_mm")


def test_an_empty_table_can_be_allowed(tmp_path):
    read = table(tmp_path, f"{HEADER}\n", allow_empty=True)
    assert len(read) == 0
    assert read.numbers("coordX").shape == (0,)


def test_floats_are_written_with_all_their_digits(tmp_path):
    path = tmp_path / "b.csv"
    write_table(path, ["v"], [[0.1 + 0.2], [1e-300]])
    np.testing.assert_array_equal(read_table(path, ["v"]).numbers("v"), [0.1 + 0.2, 1e-300])


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)"])
def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text_and_read_back(tmp_path, text):
    write_table(tmp_path / "a.csv", ["seriesuid", "x"], [[text, "-1.5"], ["plain", -2.5]])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == f"'{text},-1.5"
    assert read_table(tmp_path / "a.csv", ["seriesuid"]).text("seriesuid") == [text, "plain"]


def test_control_characters_do_not_reach_a_table(tmp_path):
    write_table(tmp_path / "a.csv", ["seriesuid"], [["a\x1b[31mb\nc\u202e"]])
    assert (tmp_path / "a.csv").read_text() == "seriesuid\na [31mb c \n"
