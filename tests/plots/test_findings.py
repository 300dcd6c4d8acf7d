"""The sheet of findings: which places are chosen, and where in a tile they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from nodule_det.candidates import ScanCandidates
from nodule_det.data.scan import MIN_HU, Finding, Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, open_store, write_info, write_scan
from nodule_det.files import write_json
from nodule_det.froc import Candidates, Lesions, match
from nodule_det.geometry import IDENTITY, Grid
from nodule_det.plots.findings import (
    COLUMNS,
    crop,
    false_positives,
    hits,
    misses,
    place,
    save_findings,
)

SIZE_VOX = (20, 30, 40)
PLACES_MM = [(5.0, 5.0, 5.0), (30.0, 20.0, 10.0)]


@pytest.fixture
def scans(tmp_path):
    """Make two scans with a lesion of 6 and one of 4 mm each."""
    (tmp_path / "scans").mkdir()
    write_info(tmp_path, StoreInfo({"spacing_mm": 1.0, "margin_mm": 4.0}))
    for uid in ("1.1", "1.2"):
        write_scan(
            tmp_path / "scans",
            ScanEntry(
                uid,
                tmp_path,
                uid,
                tuple(Finding(p, d) for p, d in zip(PLACES_MM, (6.0, 4.0), strict=True)),
            ),
            Prepared(
                np.full(SIZE_VOX, -800, np.int16),
                Grid(SIZE_VOX, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
                np.ones(SIZE_VOX, bool),
                None,
                (1.0, 1.0, 1.0),
            ),
        )
    write_json(tmp_path / "splits.json", {"folds": {"1.1": 0, "1.2": 0}})
    return open_store(tmp_path).scans


def judged(scans, candidates):
    """Match candidates of each scan with the scans' lesions."""
    uids = [scan.series_uid for scan in scans]
    return match(
        uids,
        Lesions(
            np.repeat(uids, [len(s.lesions) for s in scans]),
            np.array([f.center_mm for s in scans for f in s.lesions]),
            np.array([f.diameter_mm for s in scans for f in s.lesions]),
        ),
        Candidates(
            np.repeat(uids, [len(c) for c in candidates]),
            np.concatenate([c.world_mm for c in candidates]),
            np.concatenate([c.score for c in candidates]),
        ),
    )


def found(points, scores):
    return ScanCandidates(
        np.array(points, np.float64).reshape(-1, 3), np.array(scores), np.full(len(scores), 5.0)
    )


def test_hits_misses_and_false_positives_are_told_apart(scans, tmp_path):
    candidates = [
        found([PLACES_MM[0], (20.0, 2.0, 2.0)], [0.9, 0.3]),
        found([(1.0, 29.0, 19.0), PLACES_MM[0]], [0.8, 0.7]),
    ]
    matched = judged(scans, candidates)
    tiles, n = hits(scans, matched)
    assert [(t.scan.series_uid, t.text) for t in tiles] == [
        ("1.1", "score 0.90, 6.0 mm"),
        ("1.2", "score 0.70, 6.0 mm"),
    ]
    assert n == 2
    tiles, n = misses(scans, matched)
    assert ([t.text for t in tiles], n) == (["4.0 mm", "4.0 mm"], 2)
    tiles, n = false_positives(scans, candidates, matched)
    assert [(t.scan.series_uid, t.world_mm.tolist()) for t in tiles] == [
        ("1.2", [1.0, 29.0, 19.0]),
        ("1.1", [20.0, 2.0, 2.0]),
    ]
    save_findings(scans, candidates, matched, tmp_path / "sheet.png")
    height, width, _ = imread(tmp_path / "sheet.png").shape
    assert width > height > 300


def test_a_tile_names_its_scan_and_slice(scans):
    (tile, _), _ = misses(scans, judged(scans, [found([PLACES_MM[0]], [0.9])] * 2))
    # The missed one is at z = 10 mm: the 11th of 20 from the feet, the 10th from the head.
    assert place(tile) == "1.1, resampled 10/20"
    long = replace(tile, scan=replace(tile.scan, series_uid="1.3.6.1.4.1.14519.5.2.1.6279"))
    assert place(long) == "…2.1.6279, resampled 10/20"


@pytest.mark.parametrize("down", [False, True])
def test_a_tile_names_the_slice_of_the_source_series(scans, down):
    # 9 slices of 2.5 mm from z = -5 to 15 mm: z = 10 mm is the third from the head.
    (tile, _), _ = misses(scans, judged(scans, [found([PLACES_MM[0]], [0.9])] * 2))
    axes = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)) if down else IDENTITY
    first_mm = (0.0, 0.0, 15.0 if down else -5.0)
    source = Grid((9, 60, 60), (2.5, 0.7, 0.7), first_mm, axes)
    scan = replace(tile.scan, source_grid=source)
    assert place(replace(tile, scan=scan)) == "1.1, slice 3/9"


def test_of_many_false_positives_the_surest_are_shown(scans):
    points = [(30.0, 5.0, z) for z in range(12)]
    scores = np.linspace(0.1, 0.9, 12)
    candidates = [found(points, scores), found([], [])]
    tiles, n = false_positives(scans, candidates, judged(scans, candidates))
    assert n == 12
    assert [t.text for t in tiles] == [f"score {s:.2f}" for s in sorted(scores)[::-1][:COLUMNS]]


def test_a_sheet_without_candidates_shows_misses_only(scans, tmp_path):
    nothing = [found([], []), found([], [])]
    save_findings(scans, nothing, judged(scans, nothing), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_a_tile_at_the_border_is_filled_with_air():
    volume_hu = np.arange(2 * 4 * 5, dtype=np.int16).reshape(2, 4, 5)
    image, center = crop(volume_hu, np.array([1.0, 0.25, 4.0]), 2)
    assert image.shape == (5, 5)
    assert image[2, 2] == volume_hu[1, 0, 4]
    assert (image[:2] == MIN_HU).all()
    assert (image[:, 3:] == MIN_HU).all()
    np.testing.assert_array_equal(image[2:, :3], volume_hu[1, :3, 2:])
    assert center == (2.25, 2.0)
