"""Which files belong to a scan, and when its stamp changes."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from nodule_det.data.ingest.source import source_files, source_stamp
from nodule_det.data.scan import Finding, ScanEntry


def write_image(path, value=0):
    sitk.WriteImage(sitk.GetImageFromArray(np.full((2, 3, 4), value, np.int16)), str(path))
    return path


def test_a_metaimage_is_two_files_and_those_of_similar_names_are_others(tmp_path):
    path = write_image(tmp_path / "1.2.mhd")
    write_image(tmp_path / "1.2.3.mhd")
    assert source_files(path) == [tmp_path / "1.2.mhd", tmp_path / "1.2.raw"]
    assert source_files(tmp_path) == sorted(tmp_path.iterdir())


def test_a_nifti_is_one_file(tmp_path):
    path = write_image(tmp_path / "a.nii.gz")
    assert source_files(path) == [path]


def test_the_stamp_changes_with_files_findings_and_masks(tmp_path):
    path, mask = write_image(tmp_path / "a.mhd"), write_image(tmp_path / "mask.mhd")
    entry = ScanEntry("a", path, "p", (Finding((1.0, 2.0, 3.0), 6.0),))
    stamp = source_stamp(entry)
    assert source_stamp(entry) == stamp
    others = [
        source_stamp(replace(entry, findings=())),
        source_stamp(replace(entry, lung_mask=mask)),
        source_stamp(replace(entry, lesion_mask=mask)),
        source_stamp(replace(entry, patient_key="q")),
    ]
    os.utime(tmp_path / "a.raw", ns=(5, 5))
    others.append(source_stamp(entry))
    assert len({stamp, *others}) == 6
