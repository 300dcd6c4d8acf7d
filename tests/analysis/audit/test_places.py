"""Candidates in the wrong place, in all scans or in some: each mistake is named."""

import numpy as np
import pytest

from tests.analysis.audit.submissions import correct

GOOD = correct(3)
SOME = set(GOOD.cases[::4])
"""A quarter of the scans."""


def moved(how, scans=GOOD.cases, submission=GOOD):
    """Change the points (x, y, z) of candidates of some scans."""
    return submission.change(
        candidates=[
            (case, *how(np.array(point)), score) if case in scans else (case, *point, score)
            for case, *point, score in submission.candidates
        ]
    )


TURNS = {
    "x and z are swapped (array order": lambda p: p[::-1],
    "x and y have the other sign (RAS": lambda p: p * [-1, -1, 1],
    "x and z are swapped and x and y have": lambda p: (p * [-1, -1, 1])[::-1],
    "x and y are swapped": lambda p: p[[1, 0, 2]],
    "x has the other sign": lambda p: p * [-1, 1, 1],
    "y has the other sign": lambda p: p * [1, -1, 1],
    "z has the other sign": lambda p: p * [1, 1, -1],
    "the unit is cm instead of mm": lambda p: p / 10,
    "the unit is m instead of mm": lambda p: p / 1000,
}


@pytest.mark.parametrize("scans", [set(GOOD.cases), SOME], ids=["all scans", "some scans"])
@pytest.mark.parametrize("words", TURNS)
def test_other_axes_and_units_are_recognised(words, scans):
    finding = moved(TURNS[words], scans).findings()["wrong_axes"]
    assert f"scans {words}" in finding.message
    assert {row["case"] for row in finding.rows} <= scans


@pytest.mark.parametrize("scans", [set(GOOD.cases), SOME], ids=["all scans", "some scans"])
@pytest.mark.parametrize("rounded", [True, False])
def test_voxel_coordinates_are_noticed(scans, rounded):
    def to_voxels(p):
        voxel = (p - [-200, -200, -700]) / [0.7, 0.7, 1.25]
        return voxel.round() if rounded else voxel

    finding = moved(to_voxels, scans).findings()["voxel_coordinates"]
    assert {row["case"] for row in finding.rows} <= scans
    assert ("100% of the coordinates are whole" in finding.message) == rounded


@pytest.mark.parametrize("seed", range(5))
def test_scans_mirrored_about_their_own_middle_are_noticed(seed):
    # As in LUNA16's flipped scans: x = 2 * center - x, and y likewise; z stays.
    good, rng = correct(seed, n_scans=60), np.random.default_rng(seed)
    middle = {case: rng.uniform(-60, 60, 2) for case in good.cases}
    flipped = set(good.cases[::2])
    rows = [
        (c, 2 * middle[c][0] - x, 2 * middle[c][1] - y, z, s) if c in flipped else (c, x, y, z, s)
        for c, x, y, z, s in good.candidates
    ]
    finding = good.change(candidates=rows).findings()["mirrored_scans"]
    assert {row["case"] for row in finding.rows} <= flipped


@pytest.mark.parametrize("shift", [(3.5, 3.5, 3.5), (-8, 0, 0), (0, 0, 12.5), (20, -15, 5)])
def test_a_common_shift_is_measured(shift):
    finding = moved(lambda p: p + np.array(shift)).findings()["shifted"]
    measured = [float(v) for v in finding.message.split("(")[1].split(")")[0].split(", ")]
    np.testing.assert_allclose(measured, shift, atol=1)


def test_a_shift_that_stays_within_the_lesions_is_noticed_too():
    large = GOOD.change(lesions=[(*lesion[:4], 20.0) for lesion in GOOD.lesions])
    assert "shifted" in moved(lambda p: p + np.array([4, 0, 0]), submission=large).warnings()


@pytest.mark.parametrize("signs", [(-1, -1, -1), (1, 1, 1)])
def test_the_corner_of_a_box_is_told_from_its_centre(signs):
    radius = {tuple(lesion[1:4]): lesion[4] / 2 for lesion in GOOD.lesions}
    centers = np.array(list(radius))

    def corner(p):
        nearest = np.linalg.norm(centers - p, axis=1).argmin()
        return p + np.array(signs) * radius[tuple(centers[nearest])]

    finding = moved(corner).findings()["corner_for_centre"]
    assert f"({', '.join(f'{s:+d}' for s in signs)})" in finding.message


def test_a_point_that_no_scan_reaches_is_noticed():
    case = GOOD.lesions[0][0]
    finding = GOOD.change(candidates=[*GOOD.candidates, (case, 5000.0, 0.0, 0.0, 9.0)])
    finding = finding.findings()["outside_the_scan"]
    assert "1 of 441 candidates lies more than 700 mm from a lesion" in finding.message
    assert finding.rows[0]["row"] == len(GOOD.candidates)
