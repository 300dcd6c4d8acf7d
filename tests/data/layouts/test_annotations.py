"""Findings from CSVs, and every way in which a CSV may be wrong."""

import pytest

from nodule_det.data.layouts.annotations import read_findings, refuse_missing, refuse_strangers
from nodule_det.data.scan import Finding
from nodule_det.errors import LayoutError, TableError

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


def table(tmp_path, *lines, header=HEADER):
    path = tmp_path / "annotations.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_lesions_of_each_series_in_the_order_of_the_lines(tmp_path):
    path = table(tmp_path, "a,1,2,3,4.5", "b,0,0,0,6", "a,-1,-2.5,3e1,7")
    assert read_findings(path) == {
        "a": [Finding((1, 2, 3), 4.5), Finding((-1, -2.5, 30), 7)],
        "b": [Finding((0, 0, 0), 6)],
    }


@pytest.mark.parametrize("written", ["-1", "0"])
def test_an_excluded_finding_without_diameter_gets_luna16_s_ten_millimetres(tmp_path, written):
    path = table(tmp_path, f"a,1,2,3,{written}", "a,1,2,3,5.5")
    (one, two) = read_findings(path, excluded=True)["a"]
    assert (one.diameter_mm, two.diameter_mm) == (10, 5.5)
    assert one.excluded
    assert two.excluded


def test_further_columns_become_attributes(tmp_path):
    path = table(tmp_path, "a,1,2,3,4,solid", header=f"{HEADER},texture")
    assert read_findings(path)["a"][0].attributes == {"texture": "solid"}


def test_semicolons_and_a_byte_order_mark_are_understood(tmp_path):
    path = tmp_path / "annotations.csv"
    path.write_text("\ufeff" + HEADER.replace(",", ";") + "\na;1;2;3;4\n", encoding="utf-8")
    assert read_findings(path) == {"a": [Finding((1, 2, 3), 4)]}


@pytest.mark.parametrize(
    ("lines", "header", "words"),
    [
        (["a,1,2,3,0"], HEADER, r"csv line 2 has diameter_mm=0; a lesion needs one above 0"),
        (["a,1,2,3,-1"], HEADER, r"line 2 has diameter_mm=-1; .*CSV of excluded findings"),
        (["a,1,2,3,4", "a,nan,2,3,4"], HEADER, r"line 3 has a coordinate .* not a finite number"),
        (["a,1,2,3,inf"], HEADER, r"line 2 has a coordinate or diameter that is not a finite"),
        (["a,1,2,3,4", "a,1,2,3,4"], HEADER, r"line 3 has the same lesion as a line before it"),
        (["a,1,2,3,big"], HEADER, r"line 2: diameter_mm='big' is not a number"),
        (["a,1,2,3"], "seriesuid,x,y,z", r"lacks the column coordX, coordY, coordZ, diameter_mm"),
        ([], HEADER, r"has a header but no rows"),
    ],
)
def test_a_csv_that_makes_no_sense_is_refused(tmp_path, lines, header, words):
    with pytest.raises(TableError, match=words):
        read_findings(table(tmp_path, *lines, header=header))


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "annotations.csv").touch()
    with pytest.raises(TableError, match=r"annotations\.csv is empty: it needs a header line"):
        read_findings(tmp_path / "annotations.csv")


def test_no_excluded_finding_is_no_error(tmp_path):
    assert read_findings(table(tmp_path), excluded=True) == {}


def test_an_unknown_series_is_refused_by_name(tmp_path):
    path = table(tmp_path, "a,1,2,3,4", "x,1,2,3,4", "y,1,2,3,4")
    words = r"annotations\.csv names the unknown series x \(and 1 more\), which the folder does not"
    with pytest.raises(TableError, match=words):
        refuse_strangers(path, read_findings(path), {"a"}, "the folder")
    refuse_strangers(path, read_findings(path), {"a", "x", "y"}, "the folder")


def test_a_missing_scan_is_refused_by_name(tmp_path):
    with pytest.raises(
        LayoutError, match=r"lists the series b, but its scan is not there; .*partial"
    ):
        refuse_missing(tmp_path, ["a", "b"], {"a"})
