"""Folds by patient: fair, fixed by a seed, and kept once they are written down."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.config.data import StoreConfig
from nodule_det.data.ingest.keys import Keys
from nodule_det.data.ingest.splits import Plan, draw_folds, refuse_other_splits, write_splits
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import TEST
from nodule_det.errors import StoreError

PATIENTS = st.sets(st.integers(0, 99).map("p{}".format))


def entry(uid, patient, fold=None):
    return ScanEntry(uid, Path(f"{uid}.mhd"), patient, fold=fold)


def stored(entries):
    return {e.series_uid: e.series_uid for e in entries}


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
    write_splits(tmp_path, Plan(entries, StoreConfig(folds=2)), stored(entries))
    folds = splits(tmp_path)["folds"]
    assert len({(e.patient_key, folds[e.series_uid]) for e in entries}) == 4
    assert Counter(folds.values()) == {0: 6, 1: 6}
    assert splits(tmp_path)["how"] == {"by": "patient", "folds": 2, "seed": 0}


def test_the_layouts_own_folds_are_taken_as_they_are(tmp_path):
    entries = [entry("a", "p", 3), entry("b", "q", 7), entry("c", "r", 7)]
    write_splits(tmp_path, Plan(entries, StoreConfig()), {"a": "a", "c": "c"})
    assert splits(tmp_path) == {"how": {"by": "the layout's own folds"}, "folds": {"a": 3, "c": 7}}


def test_other_folds_for_a_store_that_has_some_are_refused(tmp_path):
    entries = [entry("a", "p"), entry("b", "q")]
    write_splits(tmp_path, Plan(entries, StoreConfig(folds=2)), stored(entries))
    refuse_other_splits(tmp_path, Plan(entries, StoreConfig(folds=2)))
    with pytest.raises(
        StoreError,
        match=r"by store\.folds=2 store\.split_seed=0, but you requested store\.folds=3 store\.",
    ):
        refuse_other_splits(tmp_path, Plan(entries, StoreConfig(folds=3)))


@given(PATIENTS, st.integers(0, 9), st.sampled_from([0.1, 0.3, 0.5]))
def test_a_share_of_the_patients_is_held_out_and_stays_so(patients, seed, share):
    drawn = draw_folds(patients, 3, seed, test=share)
    tests = {p for p, fold in drawn.items() if fold == TEST}
    assert len(tests) == round(share * len(patients))
    more = patients | {f"new{i}" for i in range(10)}
    grown = draw_folds(more, 3, seed, drawn, test=share)
    assert {p: grown[p] for p in patients} == drawn
    assert sum(f == TEST for f in grown.values()) == round(share * len(more))


def test_the_test_set_is_held_out_by_patient_and_not_trained_on(tmp_path):
    entries = [entry(f"uid{i}", f"patient{i // 2}") for i in range(20)]
    plan = Plan(entries, StoreConfig(folds=2), test=frozenset({"patient3"}))
    write_splits(tmp_path, plan, stored(entries))
    found = splits(tmp_path)
    assert found["test"] == ["uid6", "uid7"]
    assert not {"uid6", "uid7"} & set(found["folds"])
    assert found["patients"]["patient3"] == TEST
    with pytest.raises(StoreError, match=r"store\.test_scans, but you requested store\.folds=2 "):
        refuse_other_splits(tmp_path, Plan(entries, StoreConfig(folds=2)))


def test_the_layouts_folds_stay_beside_a_test_set(tmp_path):
    entries = [entry("a", "p", 3), entry("b", "q", 7), entry("c", "q", 7), entry("d", "r", 3)]
    plan = Plan(entries, StoreConfig(), test=frozenset({"q"}))
    write_splits(tmp_path, plan, stored(entries))
    found = splits(tmp_path)
    assert (found["folds"], found["test"]) == ({"a": 3, "d": 3}, ["b", "c"])


def test_the_folds_do_not_depend_on_the_secret(tmp_path):
    entries = [entry(f"uid{i}", f"patient{i}") for i in range(20)]
    found = []
    for secret in (b"a" * 32, b"b" * 32):
        keys = Keys(secret, anonymise=False)
        write_splits(tmp_path, Plan(entries, StoreConfig(), keys.patient), stored(entries))
        found.append(splits(tmp_path))
        (tmp_path / "splits.json").unlink()
    assert found[0]["folds"] == found[1]["folds"]
    assert not found[0]["patients"].keys() & found[1]["patients"].keys()
