"""Ingest with real files, real processes, real kills and a really full disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nodule_det.config.data import DataConfig, FileFormat, Layout, StoreConfig
from nodule_det.data.ingest.ingest import ingest
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.phantom.images import image_name, write_image
from nodule_det.data.scan import Scan
from nodule_det.data.store import open_store
from nodule_det.errors import StoreError
from tests.data.chests import (
    GRID,
    HEADER,
    LESION_VOXEL,
    chest_hu,
    lesion_row,
    write_chest,
    write_folder,
)

COARSE = StoreConfig(spacing_mm=2.5)
COMMAND = [sys.executable, "-m", "nodule_det.data", "store.spacing_mm=2.5"]


def config(source, out, **changes):
    return DataConfig(
        source=str(source),
        out=str(out),
        layout=Layout.folder,
        annotations=str(source.parent / "annotations.csv"),
        workers=1,
        store=COARSE,
        **changes,
    )


def run_ingest(source, out, **changes):
    settings = config(source, out, **changes)
    return ingest(list_scans(settings), settings)


def command(source, out, *more):
    return [
        *COMMAND,
        f"source={source}",
        f"out={out}",
        "layout=folder",
        f"annotations={source.parent / 'annotations.csv'}",
        *more,
    ]


def files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_folder_of_scans_becomes_a_store(tmp_path):
    outcome = run_ingest(write_folder(tmp_path), tmp_path / "store")
    assert (outcome.n_scans, outcome.n_lesions, outcome.failures) == (3, 3, {})
    store = open_store(tmp_path / "store")
    assert len(store.folds) > 1
    for scan in store.scans:
        center = tuple(np.rint(scan.grid.to_voxel(scan.lesions[0].center_mm)).astype(int))
        assert scan.volume()[center] == pytest.approx(35, abs=60)
        assert scan.lung_mask()[center]
        world = scan.grid.to_world(scan.grid.to_voxel(scan.lesions[0].center_mm))
        np.testing.assert_allclose(world, GRID.to_world(LESION_VOXEL), atol=1e-6)
    summary = json.loads((tmp_path / "store/summary.json").read_text())
    assert summary["n_scans"] == 3
    assert outcome.n_lesions_outside_lungs == 0
    assert (tmp_path / "store/summary.png").stat().st_size > 10_000


def test_all_formats_give_the_same_store(tmp_path):
    scan = Scan("1.2.3", chest_hu(), GRID)
    volumes = []
    for file_format in FileFormat:
        root = tmp_path / file_format.value
        image = root / "scans" / image_name("1.2.3", file_format)
        image.parent.mkdir(parents=True)
        write_image(scan, image, file_format)
        (root / "annotations.csv").write_text(f"{HEADER}\n{lesion_row('1.2.3')}\n")
        assert run_ingest(root / "scans", root / "store").failures == {}
        volumes.append(np.asarray(open_store(root / "store").scans[0].volume(), int))
    assert len(volumes) == 3
    assert np.abs(np.array(volumes) - volumes[0]).max() <= 1


def test_a_failed_scan_is_reported_and_stops_nothing_else(tmp_path):
    source = write_folder(tmp_path)
    raw = source / "scan1.raw"
    raw.write_bytes(raw.read_bytes()[:-1000])
    done = subprocess.run(
        command(source, tmp_path / "store", "workers=2"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "scan scan1 is left out:" in done.stderr
    assert "scan1.raw" in done.stderr
    assert "2 scans with 2 lesions, 1 scan failed" in done.stdout
    assert "scan1" in json.loads((tmp_path / "store/summary.json").read_text())["failures"]
    names = {p.name for p in (tmp_path / "store/scans").iterdir()}
    assert names == {"scan0.npy", "scan0.json", "scan2.npy", "scan2.json"}


def test_what_stands_is_not_made_again_and_a_mended_scan_is_added(tmp_path):
    source = write_folder(tmp_path)
    whole = (source / "scan1.raw").read_bytes()
    (source / "scan1.raw").write_bytes(whole[:-1000])
    assert set(run_ingest(source, tmp_path / "store").failures) == {"scan1"}
    before = (tmp_path / "store/scans/scan0.npy").stat().st_mtime_ns
    (source / "scan1.raw").write_bytes(whole)
    outcome = run_ingest(source, tmp_path / "store")
    assert (outcome.n_scans, outcome.failures) == (3, {})
    assert (tmp_path / "store/scans/scan0.npy").stat().st_mtime_ns == before


def test_a_store_of_other_settings_is_refused_and_replaced_only_on_request(tmp_path):
    source = write_folder(tmp_path, 1)
    run_ingest(source, tmp_path / "store")
    other = config(source, tmp_path / "store")
    other.store = StoreConfig(spacing_mm=4.0)
    with pytest.raises(
        StoreError, match=r"spacing_mm=2\.5, but you requested 4\.0.*overwrite=true"
    ):
        ingest(list_scans(other), other)
    other.overwrite = True
    ingest(list_scans(other), other)
    assert open_store(tmp_path / "store").spacing_mm == 4.0


def test_a_users_lung_mask_wins(tmp_path):
    source = write_folder(tmp_path, 1)
    mask = np.zeros(GRID.size_vox, np.uint8)
    mask[10:26, 20:40, 12:30] = 1
    image = sitk.GetImageFromArray(mask)
    image.SetSpacing(GRID.spacing_mm[::-1])
    image.SetOrigin(GRID.origin_mm)
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(image, str(tmp_path / "masks/scan0.mhd"))
    settings = config(source, tmp_path / "store", masks=str(tmp_path / "masks"))
    settings.store = StoreConfig(spacing_mm=2.5, margin_mm=10)  # a block: the mask falls on blocks
    ingest(list_scans(settings), settings)
    scan = open_store(tmp_path / "store").scans[0]
    assert scan.lung_mask().sum() == mask.sum() * 2**3


def test_a_lesion_outside_the_lungs_widens_the_box(tmp_path):
    source = write_folder(tmp_path, 1)
    x, y, z = GRID.to_world((2, 50, 60))
    table = tmp_path / "annotations.csv"
    table.write_text(table.read_text() + f"scan0,{x},{y},{z},6\n")
    run_ingest(source, tmp_path / "store")
    scan = open_store(tmp_path / "store").scans[0]
    assert scan.grid.contains([f.center_mm for f in scan.lesions]).all()


def test_no_permission_to_write_is_one_line(tmp_path):
    source = write_folder(tmp_path, 1)
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        command(source, tmp_path / "file" / "store"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "file/store cannot be written" in done.stderr
    assert done.stderr.count("error:") == 1


def test_a_disk_that_fills_up_leaves_no_half_scan(tmp_path):
    """The limit on a file's size acts as a full disk does: the write fails in its middle."""
    source = write_folder(tmp_path, 1)
    limited = (
        "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "sys.argv = sys.argv[1:]; runpy.run_module('nodule_det.data', run_name='__main__')"
    )
    words = command(source, tmp_path / "store", "workers=1")
    done = subprocess.run(
        [sys.executable, "-c", limited, "data", *words[3:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "scan scan0 is left out" in done.stderr
    assert list((tmp_path / "store/scans").iterdir()) == []
    outcome = run_ingest(source, tmp_path / "store")
    assert outcome.n_scans == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_ingest_that_is_killed_goes_on_to_the_same_store(tmp_path, number):
    source = write_folder(tmp_path, 16)  # enough that the end cannot come before the kill
    secret = tmp_path / "site.secret"  # two stores of one secret have the same keys
    run_ingest(source, tmp_path / "whole", secret=str(secret))
    process = subprocess.Popen(
        command(source, tmp_path / "store", "workers=2", f"secret={secret}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job is deaf
    )
    _wait_for(lambda: list((tmp_path / "store/scans").glob("*.json")))
    os.killpg(process.pid, number)
    errors = process.communicate(timeout=30)[1]
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in errors
    run_ingest(source, tmp_path / "store", secret=str(secret))
    assert files(tmp_path / "store/scans") == files(tmp_path / "whole/scans")


def test_a_killed_worker_costs_one_scan_and_is_named(tmp_path):
    source = write_folder(tmp_path, 4)
    process = subprocess.Popen(
        command(source, tmp_path / "store", "workers=2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(lambda: _workers_of(process.pid))
    os.kill(_workers_of(process.pid)[0], signal.SIGKILL)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.count("error:") == 1
    assert "is left out: its worker process was killed (out of memory?)" in errors
    assert "3 scans with 3 lesions, 1 scan failed" in out
    assert run_ingest(source, tmp_path / "store").n_scans == 4


def _workers_of(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_ingest_in_one_line_and_leaves_whole_scans(tmp_path, small_disk, workers):
    source, disk = write_folder(tmp_path, 4), small_disk("1500k")
    words = command(source, disk / "store", f"workers={workers}")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if not line.startswith("note: ")]) == 1
    assert re.search(
        r"error: .*No space left on device; (0 of 4 scans are|1 of 4 scans is) complete in "
        r".*free some space",
        done.stderr,
    )
    left = {p.suffix for p in (disk / "store/scans").iterdir()}
    assert left <= {".npy", ".json"}
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    assert run_ingest(source, disk / "store").n_scans == 4


def test_what_a_killed_ingest_left_is_swept_away(tmp_path):
    source = write_folder(tmp_path, 1)
    run_ingest(source, tmp_path / "store")
    leftover = tmp_path / "store/scans/.scan0.npy.77.tmp"
    leftover.write_bytes(b"half")
    run_ingest(source, tmp_path / "store")
    assert not leftover.exists()


def test_a_scan_whose_findings_or_files_change_is_made_anew(tmp_path):
    source = write_folder(tmp_path, 2)
    run_ingest(source, tmp_path / "store")
    table = tmp_path / "annotations.csv"
    table.write_text(f"{HEADER}\n{lesion_row('scan1')}\n")
    run_ingest(source, tmp_path / "store")
    assert [len(s.lesions) for s in open_store(tmp_path / "store").scans] == [0, 1]
    before = (tmp_path / "store/scans/scan0.npy").read_bytes()
    write_chest(source / "scan0.mhd", seed=9)
    run_ingest(source, tmp_path / "store")
    assert (tmp_path / "store/scans/scan0.npy").read_bytes() != before


def test_a_scan_that_fails_changes_nobodys_fold(tmp_path):
    source = write_folder(tmp_path, 5)
    whole = (source / "scan1.raw").read_bytes()
    (source / "scan1.raw").write_bytes(whole[:-1000])
    run_ingest(source, tmp_path / "store")
    before = {s.series_uid: s.fold for s in open_store(tmp_path / "store").scans}
    (source / "scan1.raw").write_bytes(whole)
    run_ingest(source, tmp_path / "store")
    after = {s.series_uid: s.fold for s in open_store(tmp_path / "store").scans}
    assert {uid: after[uid] for uid in before} == before
    assert sorted(after.values()) == [0, 1, 2, 3, 4]


def test_a_store_in_which_no_scan_succeeds_is_still_a_store_that_says_so(tmp_path):
    source = write_folder(tmp_path, 1)
    (source / "scan0.raw").unlink()
    outcome = run_ingest(source, tmp_path / "store")
    assert (outcome.n_scans, set(outcome.failures)) == (0, {"scan0"})
    assert open_store(tmp_path / "store").scans == ()


def test_a_lesion_that_no_detector_can_find_is_counted(tmp_path):
    source = write_folder(tmp_path, 1)
    x, y, z = GRID.to_world((2, 50, 60))
    table = tmp_path / "annotations.csv"
    table.write_text(table.read_text() + f"scan0,{x},{y},{z},6\n")
    assert run_ingest(source, tmp_path / "store").n_lesions_outside_lungs == 1
    summary = json.loads((tmp_path / "store/summary.json").read_text())
    assert summary["lesions_outside_lungs"] == {"scan0": 1}


def _wait_for(ready):
    for _ in range(6000):
        if ready():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come")


def _real(shared, source, out):
    return DataConfig(
        source=str(source),
        out=str(out),
        layout=Layout.folder,
        annotations=str(shared / "data/annotations.csv"),
        excluded=str(shared / "data/annotations_excluded.csv"),
        workers=1,
    )


def _real_series(shared, source):
    """Link the slices of the real scan into a folder, one of them damaged."""
    source.mkdir()
    for file in (shared / "data/LIDC-IDRI-0314").glob("*.dcm"):
        (source / file.name).symlink_to(file)


def _mend(shared, source):
    (source / "000275.dcm").unlink()
    (source / "000275.dcm").symlink_to(shared / "data/LIDC-IDRI-0314-repair/000275.dcm")


def test_the_real_scan_gives_the_same_store_from_every_format(tmp_path, shared):
    _real_series(shared, tmp_path / "dicom")
    _mend(shared, tmp_path / "dicom")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "dicom")))
    image = reader.Execute()
    uid = reader.GetGDCMSeriesIDs(str(tmp_path / "dicom"))[0]
    stored = {}
    for name in ("dicom", "mhd", "nii.gz"):
        if name != "dicom":
            (tmp_path / name).mkdir()
            sitk.WriteImage(image, str(tmp_path / name / f"{uid}.{name}"), True, 1)
        settings = _real(shared, tmp_path / name, tmp_path / f"store_{name}")
        assert ingest(list_scans(settings), settings).failures == {}
        stored[name] = open_store(settings.out).scans[0]
    for name in ("mhd", "nii.gz"):
        assert stored[name].grid.size_vox == stored["dicom"].grid.size_vox
        np.testing.assert_allclose(stored[name].grid.origin_mm, stored["dicom"].grid.origin_mm)
        away = stored[name].volume().astype(np.int32) - stored["dicom"].volume()
        assert np.abs(away).max() <= 1


def test_the_real_scan_keeps_its_nodule(tmp_path, shared):
    """Issue of record: a damaged slice is refused by name; mended, the nodule stays where it is."""
    source = tmp_path / "scan"
    _real_series(shared, source)
    settings = _real(shared, source, tmp_path / "store")
    failed = ingest(list_scans(settings), settings)
    assert "000275.dcm (z = -549.8 mm) is truncated" in next(iter(failed.failures.values()))

    _mend(shared, source)
    assert ingest(list_scans(settings), settings).failures == {}
    scan = open_store(tmp_path / "store").scans[0]
    lesion = scan.lesions[0]
    voxel = np.rint(scan.grid.to_voxel(lesion.center_mm)).astype(int)
    assert np.linalg.norm(scan.grid.to_world(voxel) - lesion.center_mm) < 0.5 * np.sqrt(3)
    np.testing.assert_allclose(
        scan.grid.to_world(scan.grid.to_voxel(lesion.center_mm)), lesion.center_mm, atol=1e-6
    )
    near = tuple(slice(v - 3, v + 4) for v in voxel)
    _same_nodule(tmp_path / "scan", scan, lesion)
    assert scan.volume()[near].mean() > 0  # soft tissue
    reach = int(lesion.diameter_mm / 2)
    box = tuple(slice(v - reach, v + reach + 1) for v in voxel)
    assert scan.lung_mask()[box].mean() > 0.95


def _same_nodule(source, stored, lesion):
    """Compare source and store at the nodule: same centre of mass, same HU."""
    from nodule_det.data.readers.read import read_scan

    scan = read_scan(source)
    center = [_mass_center(v, g, lesion) for v, g in (
        (scan.volume_hu, scan.grid), (stored.volume(), stored.grid))]  # fmt: skip
    assert np.linalg.norm(center[0] - center[1]) < 0.5
    at = np.rint(stored.grid.to_voxel(lesion.center_mm)).astype(int)
    there = scan.grid.to_voxel(stored.grid.to_world(at))
    low = np.floor(there).astype(int)
    corners = scan.volume_hu[tuple(slice(v, v + 2) for v in low)]
    assert corners.min() - 40 <= stored.volume()[tuple(at)] <= corners.max() + 40


def _mass_center(volume, grid, lesion):
    reach = [int(lesion.diameter_mm / s) for s in grid.spacing_mm]
    voxel = np.rint(grid.to_voxel(lesion.center_mm)).astype(int)
    low = voxel - reach
    box = volume[tuple(slice(v - r, v + r + 1) for v, r in zip(voxel, reach, strict=True))]
    dense = np.argwhere(box > -300)
    world = grid.to_world(dense + low)
    own = np.linalg.norm(world - lesion.center_mm, axis=1) < 0.6 * lesion.diameter_mm
    return world[own].mean(axis=0)


def test_memory_maps_of_chests_are_what_was_drawn(tmp_path):
    """The drawn chest itself: lungs are air, the lesion is not."""
    volume = chest_hu()
    assert volume[LESION_VOXEL] == 35
    assert Path(write_chest(tmp_path / "a.mhd")).exists()
