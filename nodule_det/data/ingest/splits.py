"""Which scan is held out when: folds by patient, fixed by a seed, and written down.

    entries ──draw_folds()──▶ splits.json

What is written down stays: a patient who has a fold keeps it when scans are added, mended or fail,
because trainings were made that held this fold out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.config.data import StoreConfig
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import Splits, read_splits, write_splits_json
from nodule_det.errors import StoreError

OWN = {"by": "the layout's own folds"}


def draw_folds(
    patients: Sequence[str] | set[str],
    folds: int,
    seed: int,
    standing: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Deal the patients to folds of nearly equal size, in an order shuffled by the seed.

    Args:
        patients: Keys of the patients; their order does not matter.
        folds: Number of folds.
        seed: Of the shuffle.
        standing: patient -> fold, for those who have one already; they keep it.

    Returns:
        patient -> fold, of these patients and the standing ones.
    """
    drawn = dict(standing or {})
    new = sorted(set(patients) - set(drawn))
    sizes = Counter(drawn.values())
    for place in np.random.default_rng(seed).permutation(len(new)):
        fold = min(range(folds), key=lambda f: (sizes[f], f))
        drawn[new[place]] = fold
        sizes[fold] += 1
    return drawn


def write_splits(
    store: Path, entries: Sequence[ScanEntry], stored: Sequence[str], config: StoreConfig
) -> None:
    """Write the folds of the scans that are in the store.

    Args:
        store: Its folder.
        entries: All scans of the data set, those that failed too: they keep a place.
        stored: series_uid of the scans that are there.
        config: Number of folds and seed, where the layout has no folds of its own.
    """
    how = split_by(entries, config)
    if how == OWN:
        folds = {e.series_uid: e.fold for e in entries if e.fold is not None}
        write_splits_json(store, Splits(how, {uid: folds[uid] for uid in stored}))
        return
    keys = {e.series_uid: e.patient_key for e in entries}
    before = read_splits(store)
    patients = draw_folds(
        set(keys.values()), config.folds, config.split_seed, before.patients if before else None
    )
    write_splits_json(store, Splits(how, {uid: patients[keys[uid]] for uid in stored}, patients))


def refuse_other_splits(store: Path, entries: Sequence[ScanEntry], config: StoreConfig) -> None:
    """Refuse to draw the folds of a store in another way than they were drawn.

    Raises:
        StoreError: If that is asked for.
    """
    before, how = read_splits(store), split_by(entries, config)
    if before and before.how != how:
        raise StoreError(
            f"the folds of {store} were drawn by {_words(before.how)}, but you requested "
            f"{_words(how)}: trainings of this store held other scans out; use another out=, or "
            "delete its splits.json to have them drawn again"
        )


def split_by(entries: Sequence[ScanEntry], config: StoreConfig) -> dict[str, Any]:
    """Say how the folds come about: the layout's own if every scan has one, else drawn."""
    if all(e.fold is not None for e in entries):
        return dict(OWN)
    return {"by": "patient", "folds": config.folds, "seed": config.split_seed}


def _words(how: Mapping[str, Any]) -> str:
    if "folds" not in how:
        return str(how["by"])
    return f"store.folds={how['folds']} store.split_seed={how['seed']}"
