"""Groups of lesions: each by hand, with the false positives of all."""

import numpy as np
import pytest

from nodule_det.analysis import analyse, analyse_strata, diameter_labels
from nodule_det.errors import FrocInputError
from tests.analysis.froc_jobs import job, matched

FOUND = matched([(0, 0.9), (0, 0.4), (1, None)], [(0, 0.5), (1, 0.3)], n_cases=2)


def test_each_group_is_its_own_lesions_and_all_false_positives():
    strata = analyse_strata(FOUND, ["small", "large", "small"], bootstrap=20)
    assert list(strata) == ["small", "large"]
    assert strata["small"].pauc == 1 / 2
    assert strata["large"].pauc == pytest.approx((5 - 1 / 2) / 5)
    assert [froc.n_lesions for froc in strata.values()] == [2, 1]
    assert {froc.n_false_positives for froc in strata.values()} == {2}


@pytest.mark.parametrize("seed", [s for s in range(20) if job(s)[2].n_lesions])
def test_the_groups_make_up_the_whole(seed):
    found = job(seed)[2]
    labels = [f"{k % 3}" for k in range(found.n_lesions)]
    strata = analyse_strata(found, labels, bootstrap=2)
    whole = analyse(found, bootstrap=2)
    mean = sum(froc.pauc * froc.n_lesions for froc in strata.values()) / found.n_lesions
    assert mean == pytest.approx(whole.pauc, abs=1e-12)


def test_an_empty_label_is_named():
    assert list(analyse_strata(FOUND, ["", "a", ""], bootstrap=2)) == ["none", "a"]


def test_sizes_are_those_of_lung_rads():
    assert diameter_labels(np.array([3.0, 7.9, 8.0, 15.0])) == [
        "below 6 mm",
        "6 to 8 mm",
        "8 to 15 mm",
        "15 mm and more",
    ]


def test_sizes_come_in_order_whatever_the_order_of_lesions():
    lesions = [(0, 0.9 - k / 10) for k in range(4)]
    labels = diameter_labels(np.array([9.0, 30.0, 3.0, 6.5]))
    assert list(analyse_strata(matched(lesions, []), labels, bootstrap=2)) == [
        "below 6 mm",
        "6 to 8 mm",
        "8 to 15 mm",
        "15 mm and more",
    ]


def test_patients_are_resampled_in_every_group():
    found = matched([(k, 0.5) for k in range(6)], [], n_cases=6)
    patients = {case: f"p{k // 2}" for k, case in enumerate(found.cases.tolist())}
    strata = analyse_strata(found, ["a", "b"] * 3, bootstrap=2, patients=patients)
    assert [froc.n_patients for froc in strata.values()] == [3, 3]


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(FrocInputError, match="expected a label for each of 3 lesions, got 1"):
        analyse_strata(FOUND, ["a"])
    many = matched([(0, 0.5)] * 51, [])
    with pytest.raises(FrocInputError, match=r"51 different labels, such as '0': strata"):
        analyse_strata(many, [str(k) for k in range(51)])
