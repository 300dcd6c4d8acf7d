"""Folds and the test set: drawn by patient with a seed, and recorded.

    entries ──draw_folds()──▶ splits.json

A patient keeps the fold when scans are added, repaired or fail, because earlier trainings held
this fold out.  The test set has no fold, so neither train nor hpo sees it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.config.data import StoreConfig
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import TEST, Splits, read_splits, write_splits_json
from nodule_det.errors import StoreError

OWN = {"by": "the layout's own folds"}


def draw_folds(
    patients: Sequence[str] | set[str],
    folds: int,
    seed: int,
    standing: Mapping[str, int] | None = None,
    test: Collection[str] | float = 0.0,
) -> dict[str, int]:
    """Assign the patients to folds of nearly equal size, in an order shuffled by the seed.

    Args:
        patients: Keys of the patients; their order does not matter.
        folds: Number of folds.
        seed: Seed of the shuffle.
        standing: patient -> existing fold, which is kept.
        test: Patients of the test set, or the share of patients to draw for it.

    Returns:
        patient -> fold or ``TEST``, for these patients and those in ``standing``.
    """
    drawn = dict(standing or {})
    new = sorted(set(patients) - set(drawn))
    sizes = Counter(drawn.values())
    missing = 0
    if isinstance(test, float | int):
        missing = round(test * (len(drawn) + len(new))) - sizes[TEST]
    for n, place in enumerate(np.random.default_rng(seed).permutation(len(new))):
        patient = new[place]
        chosen = n < missing if isinstance(test, float | int) else patient in test
        fold = TEST if chosen else min(range(folds), key=lambda f: (sizes[f], f))
        drawn[patient] = fold
        sizes[fold] += 1
    return drawn


@dataclass(frozen=True)
class Plan:
    """How to split the scans of a data set.

    Attributes:
        entries: All scans, including those that fail, which keep their place.  Patients are
            identified by the readers' hashes, so that a data set is split in the same way whatever
            the store's secret.
        config: Number of folds, seed, test set.
        key: Converts a patient's hash to the store's key.
        test: Hashes of the patients that ``store.test_scans`` names.
    """

    entries: Sequence[ScanEntry]
    config: StoreConfig
    key: Callable[[str], str] = str
    test: frozenset[str] = frozenset()

    def how(self) -> dict[str, Any]:
        """Describe the split: the layout's own folds if every scan has one, otherwise drawn."""
        how = {"by": "patient", "folds": self.config.folds, "seed": self.config.split_seed}
        if all(e.fold is not None for e in self.entries):
            how = dict(OWN)
        if self.config.test_fraction:
            how["test_fraction"] = self.config.test_fraction
        if self.test:
            names = ",".join(sorted(map(self.key, self.test)))
            how["test_patients"] = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
        return how


def write_splits(store: Path, plan: Plan, stored: Mapping[str, str]) -> None:
    """Write the folds of the scans that are in the store.

    Args:
        store: Its folder.
        plan: How the folds are drawn.
        stored: series_uid -> key, for the scans in the store.
    """
    config, before = plan.config, read_splits(store)
    plain = {plan.key(e.patient_key): e.patient_key for e in plan.entries}
    standing = {plain.get(key, key): f for key, f in (before.patients if before else {}).items()}
    test = plan.test or config.test_fraction
    drawn = draw_folds(set(plain.values()), config.folds, config.split_seed, standing, test)
    own = OWN["by"] == plan.how()["by"]
    folds, tests = {}, []
    for e in plan.entries:
        if e.series_uid not in stored:
            continue
        fold = drawn[e.patient_key]
        if fold == TEST:
            tests.append(stored[e.series_uid])
        else:
            folds[stored[e.series_uid]] = e.fold if own and e.fold is not None else fold
    known = {key: drawn[hashed] for key, hashed in plain.items()}
    patients = {} if own and not test else (before.patients if before else {}) | known
    write_splits_json(store, Splits(plan.how(), folds, patients, tuple(sorted(tests))))


def refuse_other_splits(store: Path, plan: Plan) -> None:
    """Refuse to draw the folds of a store differently from last time.

    Raises:
        StoreError: If the request differs.
    """
    before, how = read_splits(store), plan.how()
    if before and before.how != how:
        raise StoreError(
            f"the folds of {store} were drawn by {_words(before.how)}, but you requested "
            f"{_words(how)}: trainings of this store held other scans out; use another out=, or "
            "delete its splits.json to have them drawn again"
        )


def _words(how: Mapping[str, Any]) -> str:
    text = str(how.get("by", "an earlier version"))
    if "folds" in how:
        text = f"store.folds={how['folds']} store.split_seed={how['seed']}"
    if "test_fraction" in how:
        text += f" store.test_fraction={how['test_fraction']}"
    return text + (" store.test_scans" if "test_patients" in how else "")
