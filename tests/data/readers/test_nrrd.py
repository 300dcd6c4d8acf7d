"""NRRD files: read exactly as SimpleITK does, or refused in one line."""

import numpy as np
import pytest

from nodule_det.data.readers.read import read_scan
from nodule_det.errors import GeometryError, ScanError
from tests.data.scan_files import GRIDS, noise, same_place_as_itk, write_file

ANY = (ScanError, GeometryError)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("kind", ["nrrd", "nhdr"])
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "gzip"])
def test_nrrd_is_read_as_simpleitk_reads_it(tmp_path, grid, kind, compress):
    same_place_as_itk(write_file(tmp_path / f"s.{kind}", noise(), grid, compress=compress))


def nrrd(tmp_path, old=b"", new=b""):
    path = write_file(tmp_path / "s.nrrd", noise())
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    "space", [b"right-anterior-superior", b"left-anterior-superior", b"RAS", b"LPS", b"LAS"]
)
def test_nrrd_spaces_are_turned_into_lps(tmp_path, space):
    path = nrrd(tmp_path, b"left-posterior-superior", space)
    if len(space) > 3:
        same_place_as_itk(path)
    signs = {"r": (-1, -1, 1), "l": (1, -1, 1)}[space.decode()[0].lower()]
    signs = (1, 1, 1) if space == b"LPS" else signs
    np.testing.assert_allclose(read_scan(path).grid.origin_mm, np.array((-30, 12.5, -200)) * signs)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"left-posterior-superior", b"scanner-xyz", "does not say where its voxels lie"),
        (b"space origin", b"#pace origin", "does not say where its voxels lie"),
        (b"(-30,12.5", b"(-30,12,5", r"space origin=.*expected 1 vector"),
        (b"(-30,", b"(nan,", r"space origin=.*expected 1 vector"),
        (b"sizes: 8 9 6", b"sizes: 8 9 7", "is truncated: it has 864 of 1008"),
        (b"sizes: 8 9 6", b"sizes: 8 9 5", "more than the 720 bytes"),
        (b"sizes: 8 9 6", b"sizes: 8 9 -6", "expected a single 3-D volume"),
        (b"sizes: 8 9 6", b"sizes: 8 9", "expected a single 3-D volume"),
        (b"sizes: 8 9 6", b"sizes: 99999999999999999999 9 6", "expected a single 3-D volume"),
        (b"dimension: 3", b"dimension: 4", "expected a single 3-D volume"),
        (b"encoding: raw", b"encoding: hex", "supported are"),
        (b"type: short", b"type: block", "supported are"),
        (b"endian: little", b"endian: middle", "expected little or big"),
        (b"space origin", b"space units: \"m\" \"m\" \"m\"\nspace origin", "expected mm"),
        (b"space origin", b"byte skip: 7\nspace origin", "skips lines or bytes"),
        (b"space origin", b"data file: ../s.raw\nspace origin", "not lie in its own folder"),
        (b"encoding: raw", b"encoding: raw\nencoding: gzip", "damaged or doubled line"),
        (b"NRRD0004", b"NRRX0004", "is not an NRRD file"),
    ],
)  # fmt: skip
def test_a_damaged_nrrd_header_is_refused(tmp_path, old, new, words):
    with pytest.raises(ANY, match=words):
        read_scan(nrrd(tmp_path, old, new))
