"""Where the lesion labels of an entry come from."""

import numpy as np

from nodule_det.data.readers.lesions import read_lesions, scan_grid
from nodule_det.data.scan import ScanEntry
from tests.data.dicom_files import save_series
from tests.data.mask_files import DIRECTIONS, drawn_labels, seg, series_and_grid
from tests.data.scan_files import UPRIGHT, noise, write_file


def test_an_entry_without_a_mask_has_no_labels(tmp_path):
    entry = ScanEntry("a", write_file(tmp_path / "a.mha", noise()), "k")
    assert read_lesions(entry) is None
    assert scan_grid(entry) == UPRIGHT


def test_a_label_image_and_a_segmentation_give_the_same_labels(tmp_path):
    series, grid = series_and_grid(DIRECTIONS["oblique"])
    save_series(series, tmp_path / "ct")
    seg(series, drawn_labels()).save_as(tmp_path / "seg.dcm")
    image = write_file(tmp_path / "labels.mha", drawn_labels(), grid)
    for more in ({"lesion_mask": image}, {"lesion_objects": (tmp_path / "seg.dcm",)}):
        entry = ScanEntry("1.2.3.4", tmp_path / "ct", "k", **more)
        np.testing.assert_array_equal(read_lesions(entry), drawn_labels())
