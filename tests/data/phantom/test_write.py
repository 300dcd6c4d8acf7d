"""The data set on disk: read again by others' readers, gone on with, and never mixed."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.config.data import DataConfig, FileFormat, PhantomConfig, PhantomShapes
from nodule_det.data.layouts.luna16 import list_luna16
from nodule_det.data.phantom.make import make_scan
from nodule_det.data.phantom.write import image_path, write_dataset
from nodule_det.data.readers.read import read_scan
from nodule_det.errors import LayoutError

SIZE = [32, 48, 48]


def config(n_scans=2, **more):
    return PhantomConfig(**{"n_scans": n_scans, "size_vox": SIZE, "folds": 2, "seed": 5} | more)


def read(path):
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


@pytest.mark.parametrize("file_format", FileFormat)
def test_files_give_back_hu_and_geometry(tmp_path, file_format):
    asked = config(1, format=file_format)
    write_dataset(tmp_path, asked, workers=1)
    scan, _ = make_scan(5, asked)
    image = read(image_path(tmp_path, asked, 0))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan.volume_hu)
    np.testing.assert_allclose(image.GetSpacing(), scan.grid.spacing_mm[::-1], atol=1e-4)
    np.testing.assert_allclose(image.GetOrigin(), scan.grid.origin_mm, atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)


def test_shapes_add_their_ratings_to_the_annotations(tmp_path):
    write_dataset(tmp_path, config(2, nodules_per_scan=3, shapes=PhantomShapes.lidc), workers=1)
    lesions = rows(tmp_path / "annotations.csv")
    assert list(lesions[0])[5:] == [
        "texture", "attachment", "spiculation", "calcified",
        "lobulation", "sphericity", "margin", "cavity",
    ]  # fmt: skip
    assert {row["lobulation"] for row in lesions} <= set("12345")


def test_a_folder_of_an_earlier_version_is_extended_and_other_shapes_are_refused(tmp_path):
    write_dataset(tmp_path, config(1), workers=1)
    settings = json.loads((tmp_path / "phantom.json").read_text())
    del settings["shapes"], settings["scanners"]
    (tmp_path / "phantom.json").write_text(json.dumps(settings))
    with pytest.raises(LayoutError, match=r"phantom\.shapes=ball but you requested lidc"):
        write_dataset(tmp_path, config(2, shapes=PhantomShapes.lidc), workers=1)
    write_dataset(tmp_path, config(2), workers=1)
    assert json.loads((tmp_path / "phantom.json").read_text())["n_scans"] == 2


@pytest.mark.parametrize("file_format", FileFormat)
def test_the_ordinary_luna16_reader_reads_them(tmp_path, file_format):
    asked = config(2, format=file_format, nodules_per_scan=3)
    write_dataset(tmp_path, asked, workers=1)
    entries = {entry.fold: entry for entry in list_luna16(tmp_path, DataConfig())}
    assert sorted(entries) == [0, 1]
    for fold, entry in entries.items():
        scan, findings = make_scan(5 + fold, asked)
        again = read_scan(entry.path, entry.series_uid if entry.path.is_dir() else None)
        np.testing.assert_array_equal(again.volume_hu, scan.volume_hu)
        np.testing.assert_allclose(again.grid.origin_mm, scan.grid.origin_mm, atol=1e-4)
        assert entry.series_uid == scan.series_uid
        assert [(f.center_mm, f.diameter_mm, f.excluded) for f in entry.findings] == [
            (f.center_mm, f.diameter_mm, f.excluded) for f in findings
        ]


def test_a_dicom_slice_has_the_tags_of_a_ct(tmp_path):
    asked = config(1, format=FileFormat.dicom)
    write_dataset(tmp_path, asked, workers=1)
    scan, _ = make_scan(5, asked)
    slices = sorted(image_path(tmp_path, asked, 0).iterdir())
    assert len(slices) == SIZE[0]
    third = sitk.ReadImage(str(slices[2]))
    tags = {key: third.GetMetaData(key).strip() for key in third.GetMetaDataKeys()}
    assert tags["0008|0060"] == "CT"
    assert tags["0020|000e"] == scan.series_uid
    assert (tags["0028|1052"], tags["0028|1053"]) == ("-1024", "1")
    x, y, z = (float(v) for v in tags["0020|0032"].split("\\"))
    np.testing.assert_allclose((x, y, z), scan.grid.to_world([2, 0, 0]), atol=1e-3)


def test_the_tables_are_luna16s_with_columns_of_our_own_after(tmp_path):
    asked = config(3, nodules_per_scan=2)
    write_dataset(tmp_path, asked, workers=1)
    truth = [make_scan(5 + i, asked) for i in range(3)]
    uids = (tmp_path / "seriesuids.csv").read_text().split()
    assert uids == [scan.series_uid for scan, _ in truth]
    assert (tmp_path / "annotations.csv").read_text().splitlines()[0] == (
        "seriesuid,coordX,coordY,coordZ,diameter_mm,texture,attachment,spiculation,calcified"
    )
    lesions = [(s.series_uid, f) for s, fs in truth for f in fs if not f.excluded]
    excluded = [(s.series_uid, f) for s, fs in truth for f in fs if f.excluded]
    for name, findings in (("annotations", lesions), ("annotations_excluded", excluded)):
        written = rows(tmp_path / f"{name}.csv")
        assert [row["seriesuid"] for row in written] == [uid for uid, _ in findings]
        for row, (_, finding) in zip(written, findings, strict=True):
            point = tuple(float(row[axis]) for axis in ("coordX", "coordY", "coordZ"))
            assert point == finding.center_mm
            assert float(row["diameter_mm"]) == finding.diameter_mm
            assert finding.attributes.items() <= row.items()


def test_the_number_of_processes_changes_no_byte(tmp_path):
    for workers in (1, 2):
        write_dataset(tmp_path / str(workers), config(2), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_dicom_has_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        write_dataset(tmp_path / name, config(1, format=FileFormat.dicom), workers=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_scan_that_stands_is_not_made_again_and_a_lost_one_is(tmp_path):
    asked = config(3)
    write_dataset(tmp_path, asked, workers=1)
    before = contents(tmp_path)
    kept, lost = (image_path(tmp_path, asked, i) for i in (0, 2))
    time_ns = kept.stat().st_mtime_ns
    lost.unlink()
    write_dataset(tmp_path, asked, workers=1)
    assert kept.stat().st_mtime_ns == time_ns
    assert contents(tmp_path) == before


def test_a_larger_data_set_extends_a_smaller(tmp_path):
    write_dataset(tmp_path / "grown", config(1), workers=1)
    write_dataset(tmp_path / "grown", config(2), workers=1)
    write_dataset(tmp_path / "fresh", config(2), workers=1)
    assert contents(tmp_path / "grown") == contents(tmp_path / "fresh")


def test_a_folder_of_other_settings_is_refused(tmp_path):
    write_dataset(tmp_path, config(1), workers=1)
    before = contents(tmp_path)
    with pytest.raises(
        LayoutError, match=r"phantom\.seed=5 but you requested 6; use another folder"
    ):
        write_dataset(tmp_path, config(1, seed=6), workers=1)
    assert contents(tmp_path) == before


def test_fewer_scans_than_stand_are_refused(tmp_path):
    write_dataset(tmp_path, config(2), workers=1)
    with pytest.raises(LayoutError, match=r"holds 2 phantom scans, more than phantom\.n_scans=1"):
        write_dataset(tmp_path, config(1), workers=1)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(LayoutError, match=r"is not empty and has no phantom\.json"):
        write_dataset(tmp_path, config(1), workers=1)
    assert list(contents(tmp_path)) == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"n_scans": null}'])
def test_damaged_settings_are_refused_by_name(tmp_path, text):
    write_dataset(tmp_path, config(1), workers=1)
    (tmp_path / "phantom.json").write_text(text)
    with pytest.raises(LayoutError, match=r"phantom.json"):
        write_dataset(tmp_path, config(1), workers=1)


@pytest.mark.parametrize("text", ["", "{}", "[3]", '[{"excluded": true}]'])
def test_a_damaged_file_of_findings_is_refused_by_name(tmp_path, text):
    write_dataset(tmp_path, config(1), workers=1)
    (path,) = (tmp_path / "findings").iterdir()
    path.write_text(text)
    with pytest.raises(LayoutError, match=r"has a damaged phantom\.json or file in findings/"):
        write_dataset(tmp_path, config(1), workers=1)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LayoutError, match=r"file/phantom cannot be written .*another folder"):
        write_dataset(tmp_path / "file" / "phantom", config(1), workers=1)


def test_a_scan_that_cannot_be_written_leaves_no_half_of_it(tmp_path, monkeypatch):
    def full_disk(image, name):
        raise RuntimeError("ITK ERROR: Error writing: No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    with pytest.raises(LayoutError, match=r"\.mhd cannot be written .*No space left"):
        write_dataset(tmp_path, config(1), workers=1)
    assert not [p for p in (tmp_path / "subset0").iterdir()]
    assert json.loads((tmp_path / "phantom.json").read_text())["n_scans"] == 1
