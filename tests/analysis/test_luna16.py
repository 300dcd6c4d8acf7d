"""The challenge's own script, by what it wrote for a job with every nasty thing in it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.analysis import capped, challenge_figures
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import froc_curve, match, sensitivity_at
from tests import reference_froc as reference
from tests.analysis.froc_jobs import as_candidates
from tests.analysis.froc_jobs import matched as one_lesion

GOLDEN = Path(__file__).parents[1] / "golden" / "luna16"


@pytest.fixture(scope="module")
def matched():
    names = ("candidates.csv", "annotations.csv", "seriesuids.csv", "annotations_excluded.csv")
    job = read_job(*(GOLDEN / name for name in names))
    rows = capped(job.candidates)
    assert len(rows) == 1013, "candidates that the script counted"
    return match(job.cases, job.lesions, job.candidates.take(rows), job.excluded)


def test_the_counts_are_those_of_the_script(matched):
    assert (matched.found.sum(), len(matched.fp_row), (~matched.found).sum()) == (29, 935, 10)
    assert len(matched.excluded_row) == 28


def test_every_point_that_the_script_wrote_lies_on_our_curve_to_1e_9(matched):
    fp, sensitivity, threshold = np.loadtxt(GOLDEN / "froc_candidates.txt", delimiter=",").T
    curve = froc_curve(matched)
    at = np.searchsorted(-curve.threshold, -threshold - 1e-9)
    np.testing.assert_allclose(curve.threshold[at], threshold, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curve.fp_per_scan[at], fp, rtol=0, atol=1e-9)
    np.testing.assert_allclose(curve.sensitivity[at], sensitivity, rtol=0, atol=1e-9)
    # The script leaves out points on a straight piece: reading between its points changes nothing.
    grid = np.linspace(0.125, 8, 10001)
    np.testing.assert_allclose(
        sensitivity_at(curve, grid), np.interp(grid, fp, sensitivity), rtol=0, atol=2e-9
    )


def test_its_bootstrapped_means_and_ends_are_ours_but_for_the_draw(matched):
    theirs = np.loadtxt(GOLDEN / "bootstrapping.csv", delimiter=",", skiprows=1)
    ours = challenge_figures(matched, bootstrap=4000)
    # 2,000 draws of deviation 0.1 give a mean to about 0.002; their rates lie beside 1/4, 1/2 ...
    np.testing.assert_allclose(ours.mean, theirs[:, 1], atol=0.008)
    np.testing.assert_allclose(ours.low, theirs[:, 2], atol=0.03)
    np.testing.assert_allclose(ours.high, theirs[:, 3], atol=0.03)
    assert ours.cpm == np.mean(ours.sensitivity)
    assert ours.cpm_of_means == pytest.approx(np.mean(ours.mean))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.1, 0.5, 0.7, 0.9]))),
    st.integers(1, 5),
)
def test_the_cap_agrees_with_the_reference(rows, limit):
    candidates = as_candidates([(case, 0, 0, 0, score) for case, score in rows])
    expected = set()
    for case in "ab":
        of_case = [i for i, row in enumerate(rows) if row[0] == case]
        kept = reference.cap_luna16([rows[i][1] for i in of_case], limit)
        expected |= {of_case[k] for k in kept}
    assert set(capped(candidates, limit).tolist()) == expected


def test_of_a_tie_at_the_cut_none_counts():
    candidates = as_candidates([("a", 0, 0, 0, score) for score in (0.9, 0.5, 0.5, 0.5)])
    assert capped(candidates, 2).tolist() == [0]


def test_a_cap_below_one_is_refused():
    with pytest.raises(FrocInputError, match="limit=0 must be at least 1 candidate per scan"):
        capped(as_candidates([]), 0)


def test_resamples_that_all_miss_the_only_lesion_are_refused():
    with pytest.raises(FrocInputError, match="none of 2 resamples of 50 scans holds a lesion"):
        challenge_figures(one_lesion([(0, 0.5)], [], 50), bootstrap=2, seed=2)
