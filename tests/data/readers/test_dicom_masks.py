"""SEG by highdicom and RTSTRUCT by pydicom come back as the mask that they were made from."""

import sys

import numpy as np
import pytest

from nodule_det.data.readers.dicom_masks import draw_masks, open_mask
from nodule_det.errors import ScanError
from tests.data.mask_files import (
    DIRECTIONS,
    SIZE,
    drawn_labels,
    rtstruct,
    seg,
    series_and_grid,
)


def saved(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return path


def drawn(dataset, grid, path, frames_of_reference=("1.2.3.9",)):
    return draw_masks([open_mask(saved(dataset, path))], grid, frames_of_reference)


@pytest.fixture(params=DIRECTIONS)
def scan(request):
    return series_and_grid(DIRECTIONS[request.param])


def test_a_seg_has_the_voxels_it_was_made_from(scan, tmp_path):
    series, grid = scan
    made = seg(series, drawn_labels())
    np.testing.assert_array_equal(drawn(made, grid, tmp_path / "seg.dcm"), drawn_labels())


def test_frames_are_placed_by_position_and_not_by_order(scan, tmp_path):
    series, grid = scan
    made = seg(series, drawn_labels())
    order = np.random.default_rng(2).permutation(int(made.NumberOfFrames))
    pixels = made.pixel_array[order]
    made.PixelData = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    groups = list(made.PerFrameFunctionalGroupsSequence)
    made.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
    np.testing.assert_array_equal(drawn(made, grid, tmp_path / "seg.dcm"), drawn_labels())


def test_a_seg_of_the_series_read_backwards_is_the_same(scan, tmp_path):
    series, grid = scan
    made = seg(series[::-1], drawn_labels()[::-1])
    np.testing.assert_array_equal(drawn(made, grid, tmp_path / "seg.dcm"), drawn_labels())


def test_a_structure_set_has_the_voxels_it_was_made_from(scan, tmp_path):
    series, grid = scan
    made = rtstruct(series, grid, drawn_labels())
    np.testing.assert_array_equal(drawn(made, grid, tmp_path / "rt.dcm"), drawn_labels())


def test_segments_of_several_objects_are_counted_on(scan, tmp_path):
    series, grid = scan
    labels = drawn_labels()
    one = saved(seg(series, (labels == 1).astype(np.uint8)), tmp_path / "1.dcm")
    two = saved(rtstruct(series, grid, (labels == 2).astype(np.uint8)), tmp_path / "2.dcm")
    found = draw_masks([open_mask(one), open_mask(two)], grid, {"1.2.3.9"})
    np.testing.assert_array_equal(found, np.where(labels == 3, 0, labels))


def test_the_referenced_series_is_named(scan, tmp_path):
    series, grid = scan
    for made in (seg(series, drawn_labels()), rtstruct(series, grid, drawn_labels())):
        assert open_mask(saved(made, tmp_path / "a.dcm")).series_uids == ("1.2.3.4",)


def shifted(vector):
    def change(series, grid, made):
        groups = made.PerFrameFunctionalGroupsSequence
        planes = {id(group.PlanePositionSequence[0]): group for group in groups}
        for group in planes.values():  # frames of one place may share it
            plane = group.PlanePositionSequence[0]
            plane.ImagePositionPatient = [
                f"{float(p) + v:.6f}"
                for p, v in zip(plane.ImagePositionPatient, vector, strict=True)
            ]

    return change


def frame_of_reference(series, grid, made):
    made.FrameOfReferenceUID = "1.2.99"


def no_frame_of_reference(series, grid, made):
    del made.FrameOfReferenceUID


def pixel_spacing(series, grid, made):
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.6, 1.4]


def slice_spacing(series, grid, made):
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].SpacingBetweenSlices = 5.0


def no_positions(series, grid, made):
    for group in made.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def fewer_positions(series, grid, made):
    made.PerFrameFunctionalGroupsSequence = made.PerFrameFunctionalGroupsSequence[:-1]


def cut_pixels(series, grid, made):
    made.PixelData = made.PixelData[:100]


def doubled(series, grid, made):
    groups = made.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence


def fractional(series, grid, made):
    made.SegmentationType = "FRACTIONAL"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shifted((0.3, 0, 0)), r"seg\.dcm, frame 1 lies 0\.3 mm off the voxels of its scan"),
        (shifted((0, 0, 1.25)), r"lies 1\.25 mm off the voxels of its scan"),
        (shifted((0, 0, 25)), r"frame \d lies outside its scan"),
        (frame_of_reference, r"has FrameOfReferenceUID='1\.2\.99', its scan has 1\.2\.3\.9"),
        (no_frame_of_reference, r"has FrameOfReferenceUID='', its scan has 1\.2\.3\.9"),
        (pixel_spacing, r"has pixels of 1\.6 x 1\.4 mm along .* not the voxels of its scan"),
        (slice_spacing, r"has SpacingBetweenSlices=5 mm, its scan has 2\.5 mm"),
        (no_positions, r"seg\.dcm is damaged or lacks a tag \(.*PlanePosition"),
        (fewer_positions, r"frames and \d+ positions"),
        (cut_pixels, r"seg\.dcm is damaged or lacks a tag"),
        (doubled, r"segment 1 has two frames at one place"),
        (fractional, r"has SegmentationType='FRACTIONAL'; expected BINARY"),
    ],
)
def test_a_seg_that_does_not_fit_is_refused(tmp_path, change, words):
    series, grid = series_and_grid()
    made = seg(series, drawn_labels())
    change(series, grid, made)
    with pytest.raises(ScanError, match=words):
        drawn(made, grid, tmp_path / "seg.dcm")


def test_an_empty_segment_is_refused(tmp_path):
    series, grid = series_and_grid()
    made = seg(series, drawn_labels(), n_segments=4)
    with pytest.raises(ScanError, match=r"seg\.dcm, segment 4 is empty; take it out"):
        drawn(made, grid, tmp_path / "seg.dcm")


def test_overlapping_segments_are_refused(tmp_path):
    series, grid = series_and_grid()
    two = np.stack([drawn_labels() == 1, drawn_labels() > 0], axis=-1).astype(np.uint8)
    made = seg(series, two, n_segments=2)
    # the ring: 3 slices of 7 x 7 voxels less 3 x 3
    with pytest.raises(ScanError, match=r"segment 2 overlaps segment 1 of the scan in 120 voxels"):
        drawn(made, grid, tmp_path / "seg.dcm")


def test_structure_sets_off_the_grid_are_refused(tmp_path):
    series, grid = series_and_grid()
    for shift_mm, words in (
        ((0, 0, 1.0), r"rt\.dcm, ROI 1 has a contour 1 mm off the slices of its scan"),
        ((0, 0, 50.0), r"ROI 1 has a contour outside its scan"),
        ((-30.0, 0, 0), r"ROI 1 has a contour outside its scan"),
    ):
        made = rtstruct(series, grid, drawn_labels(), shift_mm)
        with pytest.raises(ScanError, match=words):
            drawn(made, grid, tmp_path / "rt.dcm")


def other_frame(made):
    made.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.99"


def point(made):
    made.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "POINT"


def two_numbers(made):
    made.ROIContourSequence[0].ContourSequence[0].ContourData = [1, 2]


def no_contours(made):
    del made.ROIContourSequence[2].ContourSequence


def no_item(made):
    made.ROIContourSequence = made.ROIContourSequence[:2]


def no_rois(made):
    made.StructureSetROISequence = []


def every_second(made):
    contours = made.ROIContourSequence[0]
    z_mm = {float(c.ContourData[2]) for c in contours.ContourSequence}
    contours.ContourSequence = [
        c for c in contours.ContourSequence if float(c.ContourData[2]) != sorted(z_mm)[1]
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_frame, r"ROI 2 has FrameOfReferenceUID='1\.2\.99', its scan has 1\.2\.3\.9"),
        (point, r"ROI 1 has a contour of type 'POINT'; expected CLOSED_PLANAR"),
        (two_numbers, r"rt\.dcm is damaged or lacks a tag"),
        (no_contours, r"ROI 3 is empty; take it out"),
        (no_item, r"ROI 3 is empty; take it out"),
        (no_rois, r"rt\.dcm has no ROI"),
        (every_second, r"ROI 1 has no contours on neighbouring slices"),
    ],
)
def test_a_structure_set_that_does_not_fit_is_refused(tmp_path, change, words):
    series, grid = series_and_grid()
    made = rtstruct(series, grid, drawn_labels())
    change(made)
    with pytest.raises(ScanError, match=words):
        drawn(made, grid, tmp_path / "rt.dcm")


def test_an_object_without_a_series_is_refused(tmp_path):
    series, grid = series_and_grid()
    made = rtstruct(series, grid, drawn_labels())
    del made.ReferencedFrameOfReferenceSequence
    with pytest.raises(ScanError, match=r"does not reference the series that it was drawn on"):
        open_mask(saved(made, tmp_path / "rt.dcm"))


@pytest.mark.parametrize("seed", range(30))
def test_a_damaged_object_is_read_or_refused_in_one_line(tmp_path, seed):
    series, grid = series_and_grid()
    maker = seg(series, drawn_labels()) if seed % 2 else rtstruct(series, grid, drawn_labels())
    path = saved(maker, tmp_path / "a.dcm")
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for at in rng.integers(132, len(content), 20):
        content[at] = rng.integers(256)
    path.write_bytes(content[: rng.integers(200, len(content))] if seed % 3 else content)
    try:
        outcome = draw_masks([open_mask(path)], grid, {"1.2.3.9"}).shape
    except ScanError as error:
        outcome = str(error)
    assert outcome == SIZE or "\n" not in outcome


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ScanError, match=r"a\.dcm .* needs pydicom .*nodule_det\[dicom\]"):
        open_mask(tmp_path / "a.dcm")
