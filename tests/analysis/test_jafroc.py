"""The figure of merit: by hand, against the slow reference, and where there is none."""

import numpy as np
import pytest

from nodule_det.analysis import jafroc, wafroc
from nodule_det.errors import FrocInputError
from tests import reference_froc as reference
from tests.analysis.froc_jobs import job, matched


@pytest.mark.parametrize("normal_only", [True, False])
def test_200_random_jobs_agree_with_the_reference(normal_only):
    for seed in range(200):
        made, slow, fast = job(seed)
        expected = reference.jafroc(slow, made["cases"], normal_only)
        figure = jafroc(fast, normal_only=normal_only, bootstrap=2).figure
        assert figure == (None if expected is None else pytest.approx(float(expected), abs=1e-12))


def test_two_lesions_and_two_healthy_scans_by_hand():
    # Lesions 0.8 and missed; healthy scans with worst 0.8 (a tie) and none at all.
    found = matched([(0, 0.8), (0, None)], [(1, 0.8), (1, 0.2), (0, 0.9)], n_cases=3)
    # 0.8 ties with 0.8 (1/2) and beats the empty scan (1); the missed one loses (0) and ties (1/2).
    result = jafroc(found)
    assert result.figure == (1 / 2 + 1 + 0 + 1 / 2) / 4
    assert result.n_normal == 2


def test_in_wafroc_every_scan_with_lesions_counts_the_same():
    # Scan 0 has lesions of 0.9 and 0.3, scan 1 one of 0.7; the healthy scan 2 has its worst at 0.5.
    found = matched([(0, 0.9), (0, 0.3), (1, 0.7)], [(2, 0.5)], n_cases=3)
    assert jafroc(found).figure == pytest.approx(2 / 3)
    assert wafroc(found).figure == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("normal_only", [True, False])
def test_with_one_lesion_a_scan_wafroc_is_jafroc(normal_only):
    rng = np.random.default_rng(0)
    found = matched(
        [(k, s) for k, s in enumerate(rng.normal(1, 1, 20))],
        [(k, s) for k, s in zip(rng.integers(40, size=90), rng.normal(size=90), strict=True)],
        n_cases=40,
    )
    one, other = (f(found, normal_only=normal_only, bootstrap=50) for f in (jafroc, wafroc))
    assert one.figure == pytest.approx(other.figure)
    assert one.interval == pytest.approx(other.interval)


def test_a_perfect_separation_of_few_scans_is_not_certain():
    lesions, healthy = [(k, 0.9) for k in range(40)], [(40 + k, 0.1) for k in range(3)]
    few = jafroc(matched(lesions, healthy, 43))
    assert few.figure == 1
    assert few.interval[0] < 0.75, "three healthy scans say little"
    assert few.se > 0


def test_the_interval_narrows_with_the_cases():
    def width(n):
        rng = np.random.default_rng(0)
        lesions = [(k, s) for k, s in enumerate(rng.normal(1, 1, n))]
        low, high = jafroc(
            matched(lesions, [(n + k, s) for k, s in enumerate(rng.normal(size=n))], 2 * n)
        ).interval
        return high - low

    assert width(400) == pytest.approx(width(100) / 2, rel=0.3)


def test_where_a_pair_is_missing_the_reason_is_given():
    assert jafroc(matched([(0, 0.5)], [])).reason == "there is no scan without lesions among 1 scan"
    assert jafroc(matched([], [(0, 0.5)])).reason == "there is no lesion among 1 scan"
    with pytest.raises(FrocInputError, match="bootstrap=1 is too few"):
        jafroc(matched([(0, 0.5)], []), bootstrap=1)
