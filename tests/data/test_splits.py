"""Folds by patient."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nodule_det.data.splits import draw_folds

PATIENTS = st.dictionaries(st.integers(0, 99).map("uid{}".format), st.sampled_from("abcdefghij"))


@given(PATIENTS, st.integers(2, 5), st.integers(0, 9))
def test_no_patient_is_in_two_folds_and_folds_are_of_nearly_equal_size(patients, folds, seed):
    drawn = draw_folds(patients, folds, seed)
    assert drawn.keys() == patients.keys()
    assert len({(patients[uid], fold) for uid, fold in drawn.items()}) == len(
        set(patients.values())
    )
    sizes = Counter({patients[uid]: fold for uid, fold in drawn.items()}.values())
    if sizes:
        counts = [sizes.get(f, 0) for f in range(folds)]
        assert max(counts) - min(counts) <= 1


@given(PATIENTS, st.integers(0, 9))
def test_the_order_of_scans_does_not_matter(patients, seed):
    turned = dict(reversed(patients.items()))
    assert draw_folds(patients, 3, seed) == draw_folds(turned, 3, seed)


def test_another_seed_draws_other_folds():
    patients = {f"uid{i}": f"patient{i}" for i in range(30)}
    assert draw_folds(patients, 5, 0) != draw_folds(patients, 5, 1)
