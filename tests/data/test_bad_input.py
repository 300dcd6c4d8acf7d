"""Bad input as a user meets it, through the commands: one clear line, no 0, nothing half-written.

The readers' own tests hold every kind of damage; here each kind of the list that the package
promises to refuse goes through ``data`` and ``predict`` beside a scan that is whole.
"""

from __future__ import annotations

import csv
import re
import subprocess

import nibabel
import numpy as np
import pytest

from nodule_det.checkpoint import Checkpoint, Meta, save_checkpoint
from nodule_det.config.train import ModelConfig
from nodule_det.data import __main__ as data
from nodule_det.data.store import open_store
from nodule_det.model import build_model
from nodule_det.predict import __main__ as predict
from tests.data.chests import GRID, HEADER, chest_hu, lesion_row, write_chest
from tests.data.scan_files import SERIES_UID, cut, write_file, write_series, write_slice

GOOD = "good"


def truncated_slice(scans):
    cut(write_series(scans / "bad", chest_hu(), GRID)[17], 1000)


def missing_slice(scans):
    write_series(scans / "bad", chest_hu(), GRID)[17].unlink()


def doubled_slice(scans):
    write_series(scans / "bad", chest_hu(), GRID)
    write_slice(scans / "bad/copy.dcm", chest_hu(1)[17], GRID.to_world([17, 0, 0]), GRID)


def nan_voxel(scans):
    volume = chest_hu().astype(np.float32)
    volume[3, 4, 5] = np.nan
    affine = np.diag([-5.0, -5.0, 5.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume.T, affine), scans / "bad.nii.gz")


def constant(scans):
    write_file(scans / "bad.mhd", np.full(GRID.size_vox, -1000, np.int16), GRID)


def no_spacing(scans):
    path = write_file(scans / "bad.mhd", chest_hu(), GRID)
    lines = [line for line in path.read_text().splitlines() if "ElementSpacing" not in line]
    path.write_text("\n".join(lines) + "\n")


def truncated_raw(scans):
    write_file(scans / "bad.mhd", chest_hu(), GRID)
    cut(scans / "bad.raw", 1000)


def no_chest(scans):
    volume = np.full(GRID.size_vox, 40, np.int16)
    volume[:, :3] = -1000
    write_file(scans / "bad.mhd", volume, GRID)


BAD = {
    truncated_slice: "17.dcm (z = -215 mm) is truncated",
    missing_slice: "18.dcm (z = -210 mm) lie 10 mm, elsewhere 5 mm: 1 slice(s) missing; export",
    doubled_slice: "and they differ: a doubled slice; take one",
    nan_voxel: "bad.nii.gz has 1 NaN or infinite voxel; export the scan again",
    constant: "bad.mhd has the same value, -1000 HU, in every voxel; export it again",
    no_spacing: "bad.mhd has no voxel spacing; add",
    truncated_raw: "bad.raw is truncated: it has",
    no_chest: "no lungs were found in bad",
}


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command in this process: (exit code, output, errors)."""

    def run(command, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["command", *words])
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def scans(tmp_path):
    """Make a folder with one whole scan and its table of lesions."""
    write_chest(tmp_path / "scans" / f"{GOOD}.mhd")
    (tmp_path / "annotations.csv").write_text(f"{HEADER}\n{lesion_row(GOOD)}\n")
    return tmp_path / "scans"


def ingest_words(scans, *more):
    return (
        f"source={scans}", "out=store", "layout=folder", "workers=1", "store.spacing_mm=5",
        f"annotations={scans.parent / 'annotations.csv'}", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Save an untrained network: what it finds does not matter here."""
    path = tmp_path_factory.mktemp("network") / "best.pt"
    meta = Meta(ModelConfig(depth=2, filters=4, residual=False), 5.0, 10.0, "0.1.0")
    save_checkpoint(path, Checkpoint(meta, build_model(meta.model).state_dict()))
    return path


def predict_words(scans, checkpoint, *more):
    return (
        f"checkpoint={checkpoint}", f"input={scans}", "out=found", "device=cpu",
        "precision=fp32", "candidates.max_per_scan=3", "candidates.threshold=0", *more,
    )  # fmt: skip


def names_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def one_line(err):
    """Check that there is one error; what ingest notes of privacy before it is not one."""
    err = "".join(line for line in err.splitlines(True) if not line.startswith("note: "))
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_ingest_refuses_a_bad_scan_and_takes_the_good_one(scans, call, tmp_path, spoil):
    spoil(scans)
    code, out, err = call(data, *ingest_words(scans))
    assert code == 1
    assert BAD[spoil] in one_line(err)
    assert "store: 1 scan with 1 lesion, 1 scan failed" in out
    assert [scan.series_uid for scan in open_store(tmp_path / "store").scans] == [GOOD]
    assert names_below(tmp_path / "store/scans") == [f"{GOOD}.json", f"{GOOD}.npy"]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_predict_refuses_a_bad_scan_and_takes_the_good_one(
    scans, call, checkpoint, tmp_path, spoil
):
    spoil(scans)
    code, out, err = call(predict, *predict_words(scans, checkpoint))
    assert code == 1
    assert BAD[spoil] in one_line(err)
    assert out.endswith("1 of 2 scans  found/candidates.csv\n")
    rows = csv.DictReader((tmp_path / "found/candidates.csv").read_text().splitlines())
    assert {row["seriesuid"] for row in rows} == {GOOD}
    assert names_below(tmp_path / "found") == [
        "candidates.csv", f"{GOOD}.mrk.json", "predict.json", f"scans/{GOOD}.json",
    ]  # fmt: skip


def test_a_folder_of_another_modality_is_refused_by_both(call, checkpoint, tmp_path):
    write_series(tmp_path / "mr", chest_hu()[:3], GRID, t0008_0060="MR")
    (tmp_path / "annotations.csv").write_text(f"{HEADER}\n{lesion_row(GOOD)}\n")
    for command, words in (
        (data, ingest_words(tmp_path / "mr")),
        (predict, predict_words(tmp_path / "mr", checkpoint)),
    ):
        code, out, err = call(command, *words)
        assert (code, out) == (1, "")
        assert "it holds DICOM files of modality MR" in one_line(err)
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "found").exists()


def test_two_series_in_a_folder_are_two_scans_each_under_its_uid(call, checkpoint, tmp_path):
    volume = chest_hu()
    write_series(tmp_path / "both", volume, GRID)
    for k, pixels in enumerate(volume):
        other = f"{SERIES_UID}.2"
        write_slice(
            tmp_path / "both" / f"b{k}.dcm", pixels, GRID.to_world([k, 0, 0]), GRID,
            t0020_000e=other,
        )  # fmt: skip
    code, out, err = call(predict, *predict_words(tmp_path / "both", checkpoint))
    assert (code, err) == (0, "")
    first, second = [line.split("  ") for line in out.splitlines()[:2]]
    assert (first[0], second[0]) == (SERIES_UID, other)
    assert first[1] == second[1]  # the same voxels, so the same candidates


def test_a_series_key_that_is_a_path_is_refused(call, checkpoint, tmp_path):
    write_series(tmp_path / "scans", chest_hu()[:3], GRID, t0020_000e="../../x")
    code, _, err = call(predict, *predict_words(tmp_path / "scans", checkpoint))
    assert code == 1
    assert "SeriesInstanceUID='../../x'; expected letters, digits and points" in one_line(err)


@pytest.mark.parametrize("name", ["data", "predict"])
def test_a_mask_of_another_shape_is_refused(scans, call, checkpoint, tmp_path, name):
    write_file(tmp_path / "masks" / f"{GOOD}.mhd", np.ones((5, 9, 8), np.uint8))
    words = f"masks={tmp_path / 'masks'}"
    if name == "data":
        code, _, err = call(data, *ingest_words(scans, words))
    else:
        code, _, err = call(predict, *predict_words(scans, checkpoint, words))
    assert code == 1
    assert "masks/good.mhd has 5 x 9 x 8 voxels (z, y, x), its scan has 36 x 56 x 66" in one_line(
        err
    )


def test_predict_takes_a_lung_mask_where_no_lungs_are_found(call, checkpoint, tmp_path):
    no_chest_folder = tmp_path / "scans"
    no_chest_folder.mkdir()
    no_chest(no_chest_folder)
    code, _, err = call(predict, *predict_words(no_chest_folder, checkpoint))
    assert code == 1
    assert "masks=FOLDER takes lung masks of your own" in one_line(err)
    mask = np.zeros(GRID.size_vox, np.uint8)
    mask[8:28, 10:40, 8:28] = mask[8:28, 10:40, 38:58] = 1
    write_file(tmp_path / "masks" / "bad.nii.gz", mask, GRID)
    words = predict_words(no_chest_folder, checkpoint, f"masks={tmp_path / 'masks'}")
    code, out, err = call(predict, *words, "out=masked")
    assert (code, err) == (0, "")
    assert out.startswith("bad  ")


def test_a_scan_without_its_mask_is_refused(scans, call, checkpoint, tmp_path):
    (tmp_path / "masks").mkdir()
    code, out, err = call(predict, *predict_words(scans, checkpoint, f"masks={tmp_path / 'masks'}"))
    assert (code, out) == (1, "")
    assert "has no mask for any of " in one_line(err)
    assert not (tmp_path / "found").exists()


TABLES = {
    "outside": (
        f"{HEADER}\ngood,18,28,900,6\n",
        "lesion at (18, 28, 900) mm of scan good lies outside",
    ),
    "unknown": (f"{HEADER}\n{lesion_row('1.2.9')}\n", "names the unknown series 1.2.9"),
    "columns": ("seriesuid,coordX,coordY\ngood,1,2\n", "lacks the column coordZ, diameter_mm"),
    "empty": ("", "annotations.csv is empty: it needs a header line seriesuid,"),
    "no rows": (f"{HEADER}\n", "has a header but no rows"),
    "words": (f"{HEADER}\ngood,1,2,left,6\n", "line 2: coordZ='left' is not a number"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_bad_table_of_lesions_is_refused(scans, call, tmp_path, kind):
    text, words = TABLES[kind]
    (tmp_path / "annotations.csv").write_text(text)
    code, _, err = call(data, *ingest_words(scans))
    assert code == 1
    assert words in one_line(err)
    if kind == "outside":  # that shows when the scan is read; the others before anything is made
        assert names_below(tmp_path / "store/scans") == []
    else:
        assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
def test_semicolons_and_a_byte_order_mark_are_read(scans, call, tmp_path, mark):
    table = tmp_path / "annotations.csv"
    table.write_text(mark + table.read_text().replace(",", ";"), encoding="utf-8")
    code, out, _ = call(data, *ingest_words(scans))
    assert code == 0
    assert "1 scan with 1 lesion" in out


def test_an_annotated_scan_that_is_not_on_disk_is_refused(call, tmp_path):
    write_chest(tmp_path / "luna/subset0/1.2.0.mhd")
    (tmp_path / "luna/annotations.csv").write_text(f"{HEADER}\n{lesion_row('1.2.0')}\n")
    (tmp_path / "luna/seriesuids.csv").write_text("1.2.0\n1.2.1\n")
    code, out, err = call(data, f"source={tmp_path / 'luna'}", "out=store", "workers=1")
    assert (code, out) == (1, "")
    assert "lists the series 1.2.1, but its scan is not there" in one_line(err)
    assert not (tmp_path / "store").exists()


def read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def test_a_folder_without_the_right_to_write_is_refused_by_both(
    scans, call, checkpoint, small_disk
):
    disk = small_disk("100k")
    read_only(disk)
    for command, words in (
        (data, ingest_words(scans, f"out={disk / 'new'}")),
        (predict, predict_words(scans, checkpoint, f"out={disk / 'new'}")),
    ):
        code, out, err = call(command, *words)
        assert (code > 0, out) == (True, "")
        assert f"out={disk / 'new'} cannot be written (Read-only file system" in one_line(err)
        assert re.search(r"(give|use) a folder", err)
    assert list(disk.iterdir()) == []


def test_predict_on_a_full_disk_keeps_whole_scans_and_goes_on(
    scans, call, checkpoint, small_disk, tmp_path
):
    for i in range(6):
        write_chest(scans / f"more{i}.mhd", seed=i)
    assert call(predict, *predict_words(scans, checkpoint, "out=whole"))[0] == 0
    disk = small_disk("40k")
    words = predict_words(scans, checkpoint, f"out={disk / 'found'}")
    code, _, err = call(predict, *words)
    assert code == 2
    assert "cannot be written (No space left on device)" in one_line(err)
    assert "completed scans are kept, and the same command resumes" in err
    stand = names_below(disk / "found")
    assert "candidates.csv" not in stand
    assert not [name for name in stand if name.endswith(".tmp")]
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    code, out, err = call(predict, *words)
    assert (code, err) == (0, "")
    assert "already done" in out
    whole = (tmp_path / "whole/candidates.csv").read_bytes()
    assert (disk / "found/candidates.csv").read_bytes() == whole
