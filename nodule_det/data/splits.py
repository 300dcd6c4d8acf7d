"""Which scan is held out when: folds by patient, fixed by a seed, and written down.

A patient's fold follows from the seed and the patients alone, never from the order of files.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def draw_folds(patients: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Deal the patients to folds of nearly equal size.

    Args:
        patients: series_uid -> patient_key.
        folds: Number of folds.
        seed: Of the shuffle.

    Returns:
        series_uid -> fold; all scans of a patient are in one.
    """
    keys = sorted(set(patients.values()))
    order = np.random.default_rng(seed).permutation(len(keys))
    fold_of = {keys[place]: rank % folds for rank, place in enumerate(order)}
    return {uid: fold_of[key] for uid, key in patients.items()}
