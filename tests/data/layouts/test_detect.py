"""Which layout a folder has, masks beside it, and findings that lie outside."""

import re
from pathlib import Path

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, Layout
from nodule_det.data.layouts.detect import LISTERS, check_findings, detect, list_scans
from nodule_det.data.scan import Finding, ScanEntry
from nodule_det.errors import LayoutError
from tests.data.scan_files import UPRIGHT, noise, write_file

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<LidcReadMessage/>" if name.endswith(".xml") else "")


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (["dataset.json", "imagesTr/a.nii.gz"], Layout.msd),
        (["subset0/1.mhd", "annotations.csv"], Layout.luna16),
        (["data/subset12/uid/1.dcm"], Layout.luna16),
        (["LIDC-IDRI-0001/1/2/1.dcm", "LIDC-IDRI-0001/1/2/069.xml"], Layout.lidc),
        (["a.mhd", "annotations.csv"], Layout.folder),
        (["a.mhd", "annotations.csv", ".hidden/subset0/a.mhd"], Layout.folder),
    ],
)
def test_a_layout_is_told_by_its_files(tmp_path, names, layout):
    touch(tmp_path, *names)
    assert detect(tmp_path, DataConfig(source=str(tmp_path))) is layout


def test_a_csv_named_by_the_user_makes_a_folder(tmp_path):
    touch(tmp_path, "a.mhd")
    config = DataConfig(source=str(tmp_path), annotations="mine.csv")
    assert detect(tmp_path, config) is Layout.folder


def test_an_unknown_layout_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "a.mhd", "notes.xmls")
    (tmp_path / "other.xml").write_text("<html/>")
    (tmp_path / "broken.xml").write_text("<")
    words = (
        r"looked for dataset\.json \(msd\), .*subset0 .*\(luna16\), .*\(lidc\), .*\(folder\); set"
    )
    with pytest.raises(LayoutError, match=words):
        detect(tmp_path, DataConfig(source=str(tmp_path)))


def test_every_layout_has_its_lister():
    assert {Layout.auto, *LISTERS} == set(Layout)


def test_a_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(LayoutError, match=r"source=\S+nowhere is not a folder"):
        list_scans(DataConfig(source=str(tmp_path / "nowhere")))


@pytest.fixture
def plain(tmp_path) -> Path:
    for name in ("b", "a"):
        write_file(tmp_path / "scans" / f"{name}.mhd", noise())
        write_file(tmp_path / "masks" / f"{name}.nii.gz", np.ones(UPRIGHT.size_vox, np.uint8))
    (tmp_path / "scans" / "annotations.csv").write_text(HEADER + "a,-28,14,-195,6\n")
    return tmp_path


def test_entries_come_in_the_order_of_their_keys(plain):
    entries = list_scans(DataConfig(source=str(plain / "scans")))
    assert [entry.series_uid for entry in entries] == ["a", "b"]
    assert all(entry.lung_mask is None for entry in entries)


def test_each_scan_gets_the_mask_of_its_name(plain):
    entries = list_scans(DataConfig(source=str(plain / "scans"), masks=str(plain / "masks")))
    assert [entry.lung_mask for entry in entries] == [
        plain / "masks" / "a.nii.gz",
        plain / "masks" / "b.nii.gz",
    ]


def test_masks_below_the_scans_are_no_scans(plain):
    (plain / "masks").rename(plain / "scans" / "masks")
    config = DataConfig(source=str(plain / "scans"), masks=str(plain / "scans" / "masks"))
    assert len(list_scans(config)) == 2


def test_a_scan_without_its_mask_fails_alone(plain):
    (plain / "masks" / "b.nii.gz").unlink()
    config = DataConfig(source=str(plain / "scans"), masks=str(plain / "masks"))
    a, b = list_scans(config)
    assert a.problem is None
    message = r"masks=\S+ has no mask for scan b: looked for \.mhd, \.mha, .* of that name"
    assert re.match(message, b.problem)
    (plain / "masks" / "a.nii.gz").unlink()
    with pytest.raises(LayoutError, match=r"masks=\S+ has no mask for any of 2 scans"):
        list_scans(config)


def test_masks_that_are_no_folder_are_refused(plain):
    with pytest.raises(LayoutError, match=r"masks=nowhere is not a folder"):
        list_scans(DataConfig(source=str(plain / "scans"), masks="nowhere"))


def entry_with(point, *, excluded=False):
    return ScanEntry("1.2", Path("a.mhd"), "k", (Finding(point, 5.0, excluded),))


def test_findings_inside_their_scan_are_fine():
    for voxel in ([0, 0, 0], [5, 8, 7], [-0.4, 8.4, 3]):
        x, y, z = UPRIGHT.to_world(voxel)
        check_findings(entry_with((x, y, z)), UPRIGHT)


@pytest.mark.parametrize(("excluded", "kind"), [(False, "lesion"), (True, "excluded finding")])
def test_a_finding_outside_its_scan_is_refused(excluded, kind):
    words = (
        rf"the {kind} at \(30, -14, -195\) mm of scan 1\.2 lies outside it, at voxel "
        r"\(2\.0, -37\.9, 75\.0\) \(z, y, x\) of 6 x 9 x 8; .* are they voxels, or RAS\?"
    )
    with pytest.raises(LayoutError, match=words):
        check_findings(entry_with((30.0, -14.0, -195.0), excluded=excluded), UPRIGHT)
