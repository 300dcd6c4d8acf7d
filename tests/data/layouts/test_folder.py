"""A plain folder and one CSV."""

import pytest

from nodule_det.config.data import DataConfig
from nodule_det.data.layouts.folder import list_folder
from nodule_det.data.scan import Finding
from nodule_det.errors import LayoutError, ScanError, TableError
from tests.data.scan_files import SERIES_UID, noise, write_file, write_series

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "scans"
    write_file(root / "anna.nii.gz", noise())
    write_file(root / "more" / "berta.mhd", noise())
    write_series(root / "dicom", noise())
    (root / "annotations.csv").write_text(HEADER + f"anna,1,2,3,4\n{SERIES_UID},5,6,7,8\n")
    return root


def listed(root, **settings):
    return {e.series_uid: e for e in list_folder(root, DataConfig(source=str(root), **settings))}


def test_rows_find_their_scans_by_file_name_or_series_uid(plain):
    entries = listed(plain)
    assert {uid: entry.findings for uid, entry in entries.items()} == {
        "anna": (Finding((1, 2, 3), 4),),
        "berta": (),
        SERIES_UID: (Finding((5, 6, 7), 8),),
    }
    assert all(entry.fold is None for entry in entries.values())
    assert len({entry.patient_key for entry in entries.values()}) == 3


def test_the_csvs_may_lie_elsewhere(plain, tmp_path):
    (tmp_path / "l.csv").write_text(HEADER + "berta,1,2,3,4\n")
    (tmp_path / "x.csv").write_text(HEADER + "berta,3,2,1,-1\n")
    findings = listed(plain, annotations=str(tmp_path / "l.csv"), excluded=str(tmp_path / "x.csv"))[
        "berta"
    ].findings
    assert findings == (Finding((1, 2, 3), 4), Finding((3, 2, 1), 10, excluded=True))


def test_a_folder_without_a_csv_is_refused(plain):
    (plain / "annotations.csv").unlink()
    with pytest.raises(
        LayoutError, match=r"has no annotations\.csv; add annotations=FILE\.csv with"
    ):
        listed(plain)


def test_a_csv_that_does_not_exist_is_refused(plain):
    with pytest.raises(TableError, match=r"nowhere\.csv does not exist"):
        listed(plain, annotations="nowhere.csv")


def test_a_row_of_no_scan_is_refused_or_left_out_on_request(plain):
    (plain / "annotations.csv").write_text(HEADER + "ana,1,2,3,4\n")
    with pytest.raises(
        TableError, match=r"names the unknown series ana, which \S+scans does not have"
    ):
        listed(plain)
    assert len(listed(plain, partial=True)) == 3


def test_a_folder_without_scans_is_refused(tmp_path):
    (tmp_path / "annotations.csv").write_text(HEADER + "a,1,2,3,4\n")
    with pytest.raises(ScanError, match=r"holds no scan: looked for"):
        listed(tmp_path)
