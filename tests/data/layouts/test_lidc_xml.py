"""The XML of LIDC's readers: what each of them marked, and what is refused."""

import pytest

from nodule_det.data.layouts.lidc_xml import MarkKind, in_short, is_reading, read_marks
from nodule_det.errors import LayoutError
from tests.data.lidc_files import nodule, other, outline, write_xml

RING = [(10, 20), (11, 20), (11, 21), (10, 21)]


def test_marks_have_their_reader_kind_place_and_ratings(tmp_path):
    large = nodule(outline(-200.5, RING), outline(-198, RING, False), texture=5, malignancy=2)
    small = nodule(outline(-196, [(7, 8)]))
    path = write_xml(tmp_path / "a.xml", "1.2.3", [large], [], [small, other(-190, 5, 6)])
    read = read_marks(path)
    assert (read.path, read.series_uid) == (path, "1.2.3")
    assert [(mark.reader, mark.kind) for mark in read.marks] == [
        (0, MarkKind.NODULE), (2, MarkKind.SMALL), (2, MarkKind.OTHER),
    ]  # fmt: skip
    first, hole = read.marks[0].outlines
    assert (first.z_mm, first.inclusion, hole.inclusion) == (-200.5, True, False)
    assert first.points.tolist() == [list(point) for point in RING]
    assert read.marks[0].ratings == {"texture": 5, "malignancy": 2}
    assert read.marks[2].outlines[0].points.tolist() == [[5, 6]]


def test_a_reading_without_a_namespace_is_the_same_reading(tmp_path):
    marks = [
        read_marks(write_xml(tmp_path / "a.xml", "1.2", [other(-190, 5, 6)], namespace=n)).marks
        for n in ("", "http://www.nih.gov")
    ]
    assert marks[0][0].outlines[0].z_mm == marks[1][0].outlines[0].z_mm == -190


def test_readings_of_x_ray_images_are_passed_over(tmp_path):
    path = write_xml(tmp_path / "x.xml", "1.2", [], root="IdriReadMessage")
    assert not is_reading(path)
    assert read_marks(path) is None


def test_what_is_not_xml_is_not_a_reading(tmp_path):
    assert is_reading(write_xml(tmp_path / "a.xml", "1.2", []))
    for content in (b"", b"not XML", b"\xff\xfe\x00<"):
        (tmp_path / "b.xml").write_bytes(content)
        assert not is_reading(tmp_path / "b.xml")
        with pytest.raises(LayoutError, match=r"b\.xml is damaged .*; copy it again"):
            read_marks(tmp_path / "b.xml")


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        (other("nan", 5, 6), "imageZposition=nan"),
        (other("inf", 5, 6), "imageZposition=inf"),
        (other(-190, 100_001, 6), "a point at pixel 100001"),
        (other(-190, "5.5", 6), "invalid literal for int"),
        (nodule(outline(-190, [])), "an outline without points"),
        (nodule(), "an unblindedReadNodule that includes nothing"),
        (nodule(outline(-190, RING), texture="solid"), "invalid literal for int"),
    ],
)
def test_a_mark_that_cannot_be_read_is_refused_by_file(tmp_path, mark, reason):
    path = write_xml(tmp_path / "069.xml", "1.2", [mark])
    with pytest.raises(LayoutError, match=rf"069\.xml has a mark that cannot be read \({reason}"):
        read_marks(path)


def test_an_error_that_quotes_thousands_of_digits_is_cut():
    assert in_short(ValueError("9" * 5000)) == "9" * 200 + "..."
