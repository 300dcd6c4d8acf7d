"""LUNA16's folders and tables."""

from pathlib import Path

import pytest

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.layouts.luna16 import list_luna16
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.readers.read import read_entry
from nodule_det.data.scan import Finding
from nodule_det.errors import LayoutError, ScanError, TableError
from tests.data.scan_files import SERIES_UID, noise, write_file, write_series

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


@pytest.fixture
def luna16(tmp_path) -> Path:
    """Return a data set of scans in folds 0, 0 and 3, as it unpacks: the folder's name twice."""
    root = tmp_path / "LUNA16"
    for where, uid in (("subset0", "1.1"), ("subset0", "1.2"), ("subset3/subset3", "1.3")):
        write_file(root / where / f"{uid}.mhd", noise())
    write_file(root / "seg-lungs-LUNA16" / "1.1.mhd", noise())
    (root / "annotations.csv").write_text(HEADER + "1.1,-28,14,-195,6.5\n1.3,-27,15,-190,4\n")
    (root / "annotations_excluded.csv").write_text(HEADER + "1.1,-26,15,-192,-1\n")
    (root / "seriesuids.csv").write_text("1.1\n1.2\n1.3\n")
    return root


def listed(root, **settings):
    return {e.series_uid: e for e in list_luna16(root, DataConfig(source=str(root), **settings))}


def test_scans_have_their_fold_and_findings(luna16):
    entries = listed(luna16)
    assert {uid: entry.fold for uid, entry in entries.items()} == {"1.1": 0, "1.2": 0, "1.3": 3}
    assert entries["1.1"].findings == (
        Finding((-28, 14, -195), 6.5),
        Finding((-26, 15, -192), 10, excluded=True),
    )
    assert entries["1.2"].findings == ()
    assert entries["1.1"].path == luna16 / "subset0" / "1.1.mhd"
    assert entries["1.1"].patient_key == patient_key("1.1") != patient_key("1.2")


def test_scans_of_another_format_are_found_too(luna16):
    write_series(luna16 / "subset7" / "series", noise())
    (luna16 / "seriesuids.csv").unlink()
    entry = listed(luna16)[SERIES_UID]
    assert (entry.fold, entry.path) == (7, luna16 / "subset7" / "series")


def test_the_tables_nearest_to_the_root_are_taken(luna16):
    deep = luna16 / "evaluationScript" / "annotations"
    deep.mkdir(parents=True)
    (deep / "annotations.csv").write_text("nonsense")
    (deep / "seriesuids.csv").write_bytes((luna16 / "seriesuids.csv").read_bytes())
    (luna16 / "seriesuids.csv").unlink()
    assert len(listed(luna16)) == 3


def test_two_tables_equally_near_are_refused(luna16):
    for name in ("a", "b"):
        (luna16 / name).mkdir()
        (luna16 / name / "annotations.csv").write_text(HEADER)
    (luna16 / "annotations.csv").unlink()
    with pytest.raises(
        LayoutError, match=r"a/annotations\.csv and \S+b/annotations\.csv; name the"
    ):
        listed(luna16)


def test_tables_may_be_named(luna16, tmp_path):
    other = tmp_path / "mine.csv"
    other.write_text(HEADER + "1.2,0,0,0,9\n")
    entries = listed(luna16, annotations=str(other), excluded=str(other))
    assert [f.excluded for f in entries["1.2"].findings] == [False, True]
    assert entries["1.1"].findings == ()


def test_a_data_set_without_annotations_is_refused(luna16):
    (luna16 / "annotations.csv").unlink()
    with pytest.raises(LayoutError, match=r"has no annotations\.csv; add annotations=FILE\.csv"):
        listed(luna16)


def test_excluded_findings_and_the_list_of_series_are_optional(luna16):
    (luna16 / "annotations_excluded.csv").unlink()
    (luna16 / "seriesuids.csv").unlink()
    assert len(listed(luna16)["1.1"].findings) == 1


@pytest.mark.parametrize("name", ["annotations.csv", "annotations_excluded.csv"])
def test_an_unknown_series_is_refused_in_either_table(luna16, name):
    with (luna16 / name).open("a") as f:
        f.write("9.9,1,2,3,4\n")
    with pytest.raises(TableError, match=rf"{name} names the unknown series 9\.9, which"):
        listed(luna16)


def test_a_listed_scan_that_is_missing_is_refused_or_left_out_on_request(luna16):
    (luna16 / "subset3/subset3/1.3.mhd").unlink()
    with pytest.raises(LayoutError, match=r"lists the series 1\.3, but its scan is not there"):
        listed(luna16)
    assert sorted(listed(luna16, partial=True)) == ["1.1", "1.2"]


def test_an_annotated_scan_that_is_missing_is_refused_without_a_list_too(luna16):
    (luna16 / "subset3/subset3/1.3.mhd").unlink()
    (luna16 / "seriesuids.csv").unlink()
    with pytest.raises(TableError, match=r"names the unknown series 1\.3"):
        listed(luna16)


def test_a_scan_that_is_not_listed_is_refused(luna16):
    (luna16 / "seriesuids.csv").write_text("seriesuid\n1.1\n1.3\n")
    with pytest.raises(
        LayoutError, match=r"holds the scan 1\.2, which its seriesuids\.csv does not"
    ):
        listed(luna16)


def test_an_empty_list_of_series_is_refused(luna16):
    (luna16 / "seriesuids.csv").write_text("\n")
    with pytest.raises(
        LayoutError, match=r"seriesuids\.csv is empty; it needs one series UID a line"
    ):
        listed(luna16)


def test_a_scan_in_two_subsets_is_refused(luna16):
    write_file(luna16 / "subset5" / "1.1.mhd", noise())
    words = r"2 scans are called 1\.1: \S+subset0\S+ and \S+subset5"
    with pytest.raises(ScanError, match=words):
        read_entry(next(e for e in listed(luna16).values() if e.series_uid == "1.1"))


def test_a_folder_without_subsets_is_refused(tmp_path):
    with pytest.raises(LayoutError, match=r"has no scan in a folder subset0 \.\.\. subset9"):
        listed(tmp_path)


def test_the_real_rows_of_luna16_are_read(shared, luna16):
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227"
    write_file(luna16 / "subset0" / f"{uid}.mhd", noise())
    (luna16 / "seriesuids.csv").unlink()
    entries = listed(
        luna16,
        annotations=str(shared / "data" / "annotations.csv"),
        excluded=str(shared / "data" / "annotations_excluded.csv"),
    )
    lesion, *excluded = entries[uid].findings
    assert lesion.center_mm == (-57.43923954, 131.2325201, -520.3592267)
    assert lesion.diameter_mm == 15.48525426
    assert excluded
    assert all(f.excluded and f.diameter_mm > 0 for f in excluded)
    assert [f.diameter_mm for f in excluded].count(10) > 20  # written as -1


def test_the_layout_is_told_by_its_subset_folders(luna16):
    config = DataConfig(source=str(luna16))
    assert config.layout is Layout.auto
    assert [entry.fold for entry in list_scans(config)] == [0, 0, 3]
