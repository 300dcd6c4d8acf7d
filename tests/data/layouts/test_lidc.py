"""Four readers' marks become one truth: by hand, on made-up outlines, and on a real nodule."""

import json
import os

import numpy as np
import pytest

from nodule_det.config.data import DataConfig, LidcConfig
from nodule_det.data.layouts.lidc import Measured, Plane, cluster, list_lidc, measure
from nodule_det.data.layouts.lidc_xml import Mark, MarkKind, read_marks
from nodule_det.data.readers.read import read_entry, read_scan
from nodule_det.errors import LayoutError, ScanError
from nodule_det.geometry import Grid
from tests.data.lidc_files import nodule, other, outline, write_xml
from tests.data.scan_files import SERIES_UID, write_series

GRID = Grid((6, 40, 40), (2.0, 0.5, 0.5), (-30.0, 12.5, -200.0))
VOLUME = np.random.default_rng(0).integers(-1000, 1500, GRID.size_vox).astype(np.int16)


def square(x, y, edge):
    """Return the chain of pixels around edge x edge pixels, the first of which is (x, y)."""
    low, high = -1, edge
    chain = [(i, low) for i in range(low, high)] + [(high, i) for i in range(low, high)]
    chain += [(i, high) for i in range(high, low, -1)] + [(low, i) for i in range(high, low, -1)]
    return [(x + i, y + j) for i, j in chain]


def block(x=10, y=12, edge=9, slices=(1, 2), **ratings):
    """Mark a nodule of edge x edge pixels in some slices."""
    return nodule(*(outline(-200 + 2.0 * k, square(x, y, edge)) for k in slices), **ratings)


def listed(root, sessions, *, config=None, **settings):
    write_series(root / "series", VOLUME, GRID)
    write_xml(root / "series" / "069.xml", SERIES_UID, *sessions)
    config = DataConfig(source=str(root), lidc=config or LidcConfig(), **settings)
    (entry,) = list_lidc(root, config)
    return entry


# --- from marks to findings


def test_the_mean_of_the_readers_is_the_truth(tmp_path):
    entry = listed(tmp_path, [[block(9)], [block(10)], [block(11)], []])
    (lesion,) = entry.findings
    # pixels 10 .. 18 of 0.5 mm from -30: centre 14; slices 1 and 2 of 2 mm from -200
    np.testing.assert_allclose(lesion.center_mm, (-30 + 14 * 0.5, 12.5 + 16 * 0.5, -197))
    volume_mm3 = 2 * 81 * 0.5 * 0.5 * 2.0
    assert lesion.diameter_mm == pytest.approx((6 * volume_mm3 / np.pi) ** (1 / 3))
    assert not lesion.excluded
    assert lesion.attributes["readers"] == "3"


@pytest.mark.parametrize(
    ("min_readers", "excluded"), [(1, False), (2, False), (3, True), (4, True)]
)
def test_fewer_readers_than_needed_make_an_excluded_finding(tmp_path, min_readers, excluded):
    config = LidcConfig(min_readers=min_readers)
    (finding,) = listed(tmp_path, [[block()], [block()], [], []], config=config).findings
    assert finding.excluded is excluded


@pytest.mark.parametrize(("min_diameter_mm", "excluded"), [(5.0, False), (5.5, True)])
def test_a_nodule_that_is_too_small_is_an_excluded_finding(tmp_path, min_diameter_mm, excluded):
    config = LidcConfig(min_diameter_mm=min_diameter_mm)  # the block's ball has 5.37 mm
    (finding,) = listed(tmp_path, [[block()]] * 4, config=config).findings
    assert finding.excluded is excluded


def test_points_are_excluded_findings_each(tmp_path):
    small = nodule(outline(-196.0, [(20, 30)]))
    entry = listed(tmp_path, [[small, other(-198.0, 5, 6)], [small], [], []])
    kinds = [f.attributes["kind"] for f in entry.findings]
    assert sorted(kinds) == ["non_nodule", "small_nodule", "small_nodule"]
    assert all(f.excluded and f.diameter_mm == 10 for f in entry.findings)
    assert entry.findings[kinds.index("non_nodule")].center_mm == (-27.5, 15.5, -198)
    assert entry.findings[kinds.index("small_nodule")].center_mm == (-20, 27.5, -196)


def test_nodules_apart_stay_apart(tmp_path):
    entry = listed(tmp_path, [[block(5, 5), block(25, 25)]] * 4)
    assert [f.attributes["readers"] for f in entry.findings] == ["4", "4"]


def test_a_hole_is_no_part_of_a_nodule(tmp_path):
    holes = [outline(-200 + 2.0 * k, square(14, 16, 1), inclusion=False) for k in (1, 2)]
    whole = [outline(-200 + 2.0 * k, square(10, 12, 9)) for k in (1, 2)]
    (lesion,) = listed(tmp_path, [[nodule(*whole, *holes)]] * 3).findings
    assert lesion.diameter_mm == pytest.approx((6 * 2 * 80 * 0.5 / np.pi) ** (1 / 3))


def test_ratings_are_means_and_texture_a_word(tmp_path):
    rated = [[block(texture=t, spiculation=s)] for t, s in ((5, 1), (3, 2), (1, 4), (1, 5))]
    (lesion,) = listed(tmp_path, rated).findings
    assert lesion.attributes["texture"] == "part_solid"  # the mean is 2.5
    assert lesion.attributes["spiculation"] == "3"


def mark_at(reader, x_mm, diameter_mm=6.0):
    return Measured(Mark(reader, MarkKind.NODULE, ()), (x_mm, 0.0, 0.0), diameter_mm)


def test_marks_join_when_nearer_than_the_sum_of_their_radii():
    near, far = mark_at(1, 5.9), mark_at(1, 6.1)
    first = mark_at(0, 0.0)
    assert cluster([first, near]) == [[first, near]]
    assert cluster([first, far]) == [[first], [far]]


def test_a_reader_never_counts_twice_in_a_nodule():
    one, twice, again = mark_at(0, 0.0), mark_at(1, 1.0), mark_at(1, 2.0)
    assert cluster([one, twice, again]) == [[one, twice], [again]]
    assert cluster([again, one, twice]) == [[again], [one, twice]]


def test_the_centre_follows_the_axes_of_the_series(tmp_path):
    plane = Plane(np.array([10.0, 20.0]), np.array([[-0.5, 0.0], [0.0, -0.5]]), 2.0)
    (mark,) = read_marks(write_xml(tmp_path / "a.xml", "1.2", [block(10, 12, 9)])).marks
    # a patient on the belly: x and y of the image run against the world's
    assert measure(mark, plane).center_mm == (10 - 14 * 0.5, 20 - 16 * 0.5, -197)


# --- files


def test_an_xml_without_namespace_or_beside_the_series_is_read_too(tmp_path):
    write_series(tmp_path / "scans" / "series", VOLUME, GRID)
    write_xml(tmp_path / "xml" / "157" / "1.xml", SERIES_UID, [block()], namespace="")
    write_xml(tmp_path / "xml" / "157" / "2.xml", "9.9", [], root="IdriReadMessage")
    (entry,) = list_lidc(tmp_path, DataConfig(source=str(tmp_path)))
    assert len(entry.findings) == 1


def test_the_same_file_twice_is_fine_and_another_reading_is_refused(tmp_path):
    write_series(tmp_path / "series", VOLUME, GRID)
    write_xml(tmp_path / "a.xml", SERIES_UID, [block()])
    write_xml(tmp_path / "b.xml", SERIES_UID, [block()])
    assert len(list_lidc(tmp_path, DataConfig(source=str(tmp_path)))) == 1
    write_xml(tmp_path / "c.xml", SERIES_UID, [])
    (entry,) = list_lidc(tmp_path, DataConfig(source=str(tmp_path)))
    with pytest.raises(ScanError, match=r"a\.xml and \S+c\.xml are different readings of ser"):
        read_entry(entry)


def test_a_series_that_nobody_read_is_refused_or_left_out_on_request(tmp_path):
    write_series(tmp_path / "two", VOLUME, GRID, t0020_000e="1.2.9")
    with pytest.raises(LayoutError, match=r"two holds series 1\.2\.9, which no XML file .* about"):
        listed(tmp_path, [[block()]])
    assert listed(tmp_path, [[block()]], partial=True).series_uid == SERIES_UID


def test_a_reading_whose_scan_is_missing_is_refused_or_left_out_on_request(tmp_path):
    write_xml(tmp_path / "x.xml", "7.7", [block()])
    with pytest.raises(LayoutError, match=r"lists the series 7\.7, but its scan is not there"):
        listed(tmp_path, [[block()]])
    assert listed(tmp_path, [[block()]], partial=True).series_uid == SERIES_UID


def test_a_folder_without_xml_is_refused(tmp_path):
    write_series(tmp_path / "series", VOLUME, GRID)
    with pytest.raises(LayoutError, match=r"has 1 DICOM CT series and 0 readers' XML files"):
        list_lidc(tmp_path, DataConfig(source=str(tmp_path)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</LidcReadMessage>", "", r"069\.xml is damaged \(no element found"),
        ("SeriesInstanceUid>", "Series>", r"069\.xml has no ResponseHeader/SeriesInstanceUid"),
        ("TRUE", "MAYBE", r"has a mark that cannot be read \(inclusion='MAYBE'\)"),
        ("TRUE", "FALSE", r"\(an unblindedReadNodule that includes nothing\)"),
        ("<xCoord>9</xCoord>", "", r"\(edgeMap without xCoord\)"),
        ("<xCoord>9<", "<xCoord>nine<", r"\(invalid literal for int"),
    ],
)
def test_a_damaged_xml_is_refused_by_name(tmp_path, old, new, words):
    listed(tmp_path, [[block()]])
    path = tmp_path / "series" / "069.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    (entry,) = list_lidc(tmp_path, DataConfig(source=str(tmp_path)))
    with pytest.raises(ScanError, match=words):
        read_entry(entry)


def test_a_scan_whose_slices_are_damaged_is_listed_so_that_reading_can_say_why(tmp_path):
    listed(tmp_path, [[block()]])
    (tmp_path / "series" / "2.dcm").write_bytes(b"")
    (entry,) = list_lidc(tmp_path, DataConfig(source=str(tmp_path)))
    assert len(entry.findings) == 1
    with pytest.raises(ScanError, match=r"2\.dcm is empty"):
        read_scan(entry.path, entry.series_uid)


# --- a real nodule


@pytest.fixture
def real(shared, tmp_path):
    """Return a function that lists the real scan with the marks of some of its readers."""
    data = shared / "data"
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227"
    for path in (data / "LIDC-IDRI-0314").glob("*.dcm"):
        os.symlink(path, tmp_path / path.name)  # headers only: the damaged slice does not matter
    sessions = []
    for mark in json.loads((data / "LIDC-IDRI-0314-readers.json").read_text()):
        rois = [outline(c["z_mm"], c["xy_px"], c["inclusion"]) for c in mark["contours"]]
        ratings = {name: mark[name] for name in ("texture", "spiculation", "malignancy")}
        sessions.append([nodule(*rois, **ratings)])

    def findings(readers, config):
        write_xml(tmp_path / "138.xml", uid, *(sessions[reader] for reader in readers))
        (entry,) = list_lidc(tmp_path, DataConfig(source=str(tmp_path), lidc=config))
        return entry.findings

    return findings


def test_the_real_nodule_is_where_luna16_says(real):
    (lesion,) = real(range(4), LidcConfig())
    luna16_mm = (-57.43923954, 131.2325201, -520.3592267)
    assert np.linalg.norm(np.subtract(lesion.center_mm, luna16_mm)) < 0.25
    # 15.43: LUNA16 averaged the readers one after the other, so the last of them counts half
    assert lesion.diameter_mm == pytest.approx(15.48525426, abs=0.1)
    assert not lesion.excluded
    assert lesion.attributes["readers"] == "4"
    assert lesion.attributes["texture"] == "solid"


def test_one_reader_of_the_real_nodule_is_measured_as_luna16_did(real):
    (finding,) = real([3], LidcConfig())  # a row of LUNA16's annotations_excluded.csv
    assert finding.excluded
    assert finding.diameter_mm == pytest.approx(15.85013991, abs=1e-7)
    luna16_mm = (-57.03699495, 131.3963218, -520.4545667)
    np.testing.assert_allclose(finding.center_mm, luna16_mm, atol=1e-3)
