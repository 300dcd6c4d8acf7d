"""Scan by scan, in parallel and in any order: the same figures to the last bit."""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.analysis import Interval, analyse, compare, jafroc, keep_cases, merge
from nodule_det.errors import FrocInputError
from tests.analysis.froc_jobs import job, match_rows


def of_case(rows, cases):
    return [row for row in rows if row[0] in cases]


def part(made, cases):
    lists = (of_case(made[name], cases) for name in ("lesions", "detections", "excluded"))
    return match_rows(cases, *lists)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 200), st.randoms(use_true_random=False), st.sampled_from(Interval))
def test_splitting_and_merging_changes_no_bit(seed, random, interval):
    made, _, whole = job(seed)
    cases = list(made["cases"])
    random.shuffle(cases)
    cut = random.randint(0, len(cases) - 1)
    parts = [part(made, [case]) for case in cases[:cut]] + [part(made, cases[cut:])]
    merged = merge(parts)
    assert analyse(merged, bootstrap=20, interval=interval) == analyse(
        whole, bootstrap=20, interval=interval
    )
    assert jafroc(merged, bootstrap=20) == jafroc(whole, bootstrap=20)


def test_merging_merged_parts_is_merging_all():
    made = job(6)[0]
    a, b, *rest = ([case] for case in made["cases"])
    parts = [part(made, cases) for cases in (a, b, *rest)]
    nested = merge([merge(parts[:2]), merge(parts[2:])])
    for name, value in vars(merge(parts)).items():
        np.testing.assert_array_equal(getattr(nested, name), value, err_msg=name)


def test_rows_are_those_of_the_appended_files():
    made = job(6)[0]
    appended = [row for case in made["cases"] for row in of_case(made["detections"], [case])]
    whole = match_rows(made["cases"], made["lesions"], appended, made["excluded"])
    merged = merge(part(made, [case]) for case in made["cases"])
    for name in ("lesion_row", "fp_row", "excluded_row", "repeated_row"):
        assert sorted(getattr(merged, name)) == sorted(getattr(whole, name)), name


def test_two_processes_give_what_one_gives():
    made, _, whole = job(6)
    with ProcessPoolExecutor(2) as pool:
        parts = list(pool.map(part, [made] * len(made["cases"]), ([c] for c in made["cases"])))
    assert analyse(merge(parts), bootstrap=20) == analyse(whole, bootstrap=20)


def test_the_order_of_scans_changes_no_comparison():
    made, _, whole = job(6)
    other = merge(part(made, [case]) for case in reversed(made["cases"]))
    assert compare(other, other, bootstrap=20, permutations=20) == compare(
        whole, whole, bootstrap=20, permutations=20
    )


@pytest.mark.parametrize("seed", range(20))
def test_keeping_cases_is_matching_these_only(seed):
    made, _, whole = job(seed)
    kept = np.arange(whole.n_cases)[::-1][::2]
    alone = part(made, [made["cases"][k] for k in kept])
    some = keep_cases(whole, kept)
    assert some.cases.tolist() == alone.cases.tolist()
    assert sorted(zip(some.lesion_case, some.lesion_score, strict=True)) == sorted(
        zip(alone.lesion_case, alone.lesion_score, strict=True)
    )
    assert sorted(zip(some.fp_case, some.fp_score, strict=True)) == sorted(
        zip(alone.fp_case, alone.fp_score, strict=True)
    )


def test_parts_that_cannot_be_merged_are_refused():
    with pytest.raises(FrocInputError, match="there is no outcome to merge"):
        merge([])
    with pytest.raises(FrocInputError, match="case c00 was evaluated in two parts"):
        merge([job(6)[2], job(6)[2]])
