"""Folds by patient: fair, fixed by a seed, and kept once they are written down."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.config.data import StoreConfig
from nodule_det.data.ingest.splits import draw_folds, refuse_other_splits, write_splits
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import StoreError

PATIENTS = st.sets(st.integers(0, 99).map("p{}".format))


def entry(uid, patient, fold=None):
    return ScanEntry(uid, Path(f"{uid}.mhd"), patient, fold=fold)


def splits(store):
    content = json.loads((store / "splits.json").read_text())
    assert len(content.pop("checksum")) == 32
    return content


@given(PATIENTS, st.integers(2, 5), st.integers(0, 9))
def test_folds_are_of_nearly_equal_size(patients, folds, seed):
    drawn = draw_folds(patients, folds, seed)
    assert drawn.keys() == patients
    sizes = Counter(drawn.values())
    counts = [sizes.get(f, 0) for f in range(folds)]
    assert max(counts) - min(counts) <= 1


@given(PATIENTS, PATIENTS, st.integers(0, 9))
def test_who_has_a_fold_keeps_it_when_others_come(first, later, seed):
    standing = draw_folds(first, 3, seed)
    drawn = draw_folds(later, 3, seed, standing)
    assert drawn.keys() == first | later
    assert {key: drawn[key] for key in first} == standing
    sizes = Counter(drawn.values())
    assert max(sizes.get(f, 0) for f in range(3)) - min(sizes.get(f, 0) for f in range(3)) <= 1


def test_the_order_of_patients_does_not_matter_and_the_seed_does():
    patients = [f"patient{i}" for i in range(30)]
    assert draw_folds(patients, 5, 0) == draw_folds(patients[::-1], 5, 0)
    assert draw_folds(patients, 5, 0) != draw_folds(patients, 5, 1)


def test_all_scans_of_a_patient_are_in_one_fold(tmp_path):
    entries = [entry(f"uid{i}", f"patient{i // 3}") for i in range(12)]
    write_splits(tmp_path, entries, [e.series_uid for e in entries], StoreConfig(folds=2))
    folds = splits(tmp_path)["folds"]
    assert len({(e.patient_key, folds[e.series_uid]) for e in entries}) == 4
    assert Counter(folds.values()) == {0: 6, 1: 6}
    assert splits(tmp_path)["how"] == {"by": "patient", "folds": 2, "seed": 0}


def test_the_layouts_own_folds_are_taken_as_they_are(tmp_path):
    entries = [entry("a", "p", 3), entry("b", "q", 7), entry("c", "r", 7)]
    write_splits(tmp_path, entries, ["a", "c"], StoreConfig())
    assert splits(tmp_path) == {"how": {"by": "the layout's own folds"}, "folds": {"a": 3, "c": 7}}


def test_other_folds_for_a_store_that_has_some_are_refused(tmp_path):
    entries = [entry("a", "p"), entry("b", "q")]
    write_splits(tmp_path, entries, ["a", "b"], StoreConfig(folds=2))
    refuse_other_splits(tmp_path, entries, StoreConfig(folds=2))
    with pytest.raises(
        StoreError,
        match=r"by store\.folds=2 store\.split_seed=0, but you requested store\.folds=3 store\.",
    ):
        refuse_other_splits(tmp_path, entries, StoreConfig(folds=3))
