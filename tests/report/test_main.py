"""``nodule-det report`` for any detector, and for a run from another working directory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import SimpleITK as sitk
import yaml

from nodule_det.origin import Origin, ScanRecord, write_origin
from tests.report.run_folder import GRID, LESIONS, draw, make_run


def report(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "nodule_det", "report", *words],
        capture_output=True, text=True, check=False, timeout=120, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def detector(tmp_path):
    """Write CSV files of a detector and the scans as images, in a folder each."""
    run = make_run(tmp_path / "made")
    for name in ("candidates", "annotations", "scans"):
        getattr(run, name).rename(tmp_path / f"{name}.csv")
    (tmp_path / "images").mkdir()
    for uid in LESIONS:
        image = sitk.GetImageFromArray(draw(uid))
        image.SetOrigin(GRID.origin_mm)
        image.SetSpacing(GRID.spacing_mm[::-1])
        sitk.WriteImage(image, str(tmp_path / "images" / f"{uid}.mha"))
    return tmp_path


TABLES = ("candidates=candidates.csv", "annotations=annotations.csv", "scans=scans.csv")


@pytest.mark.parametrize("voxels", ["images=images", "store=made/store"])
def test_any_detector_gets_a_report_from_its_tables_and_scans(detector, voxels):
    done = report(*TABLES, voxels, "bootstrap=50", cwd=detector)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("report.html: 6 findings")
    text = (detector / "report.html").read_text()
    assert "Lung nodules found by candidates" in text
    assert ('"resampled":true' in text) == voxels.startswith("store")


def test_a_scan_without_an_image_is_named(detector):
    (detector / "images" / "1.2.1.mha").unlink()
    done = report(*TABLES, "images=images", cwd=detector)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "images=images lacks 1 of 2 scans, such as 1.2.1; it has 1, such as 1.2.0" in (
        done.stderr
    )


@pytest.mark.parametrize("words", [[], ["images=images", "store=made/store"]])
def test_voxels_come_from_exactly_one_place(detector, words):
    done = report(*TABLES, *words, cwd=detector)
    assert done.returncode == 2
    assert "set exactly one of them" in done.stderr


def test_the_store_of_a_run_is_found_from_another_working_directory(tmp_path):
    run = make_run(tmp_path / "project")
    settings = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump({**settings, "store": "store"}))
    done = report(f"run={run.path}", cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert (run.path / "report.html").is_file()


def test_the_page_says_which_kind_its_figures_are_and_warns_of_scans_seen(detector):
    uid = next(iter(LESIONS))
    write_origin(detector / "candidates.csv", Origin(scans=ScanRecord.of([uid], [])))
    done = report(*TABLES, "images=images", "bootstrap=50", cwd=detector)
    assert done.returncode == 0, done.stderr
    page = (detector / "report.html").read_text()
    assert "Figures: training (the network was trained on 1 of" in page
    assert "figures on these say nothing about new scans" in page
