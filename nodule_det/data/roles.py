"""Which scans of a store a run trains on, and which ones choose its checkpoint.

Store, TrainConfig ──trained_on(), held_out()──▶ StoredScan, ...
Store ──known_patients()──▶ {series_uid: patient_key}
"""

from __future__ import annotations

import numpy as np

from nodule_det.config.train import TrainConfig
from nodule_det.data.store import Store, StoredScan
from nodule_det.errors import ConfigError


def trained_on(store: Store, config: TrainConfig) -> tuple[StoredScan, ...]:
    """Return the scans of all folds except the validation fold and the test fold.

    Raises:
        ConfigError: If both are the same fold.
        StoreError: If the store has no scans of one of them.
    """
    if config.test_fold is None:
        return store.training(config.fold)
    if config.test_fold == config.fold:
        raise ConfigError(
            f"test_fold={config.test_fold} is also the validation fold, which chooses the "
            "checkpoint; choose another test_fold"
        )
    test = {scan.series_uid for scan in store.validation(config.test_fold)}
    return tuple(scan for scan in store.training(config.fold) if scan.series_uid not in test)


def held_out(store: Store, config: TrainConfig) -> tuple[StoredScan, ...]:
    """Return the scans to validate on: the fold, or ``validation.max_scans`` drawn by seed."""
    scans = store.validation(config.fold)
    most = config.validation.max_scans
    if not 0 < most < len(scans):
        return scans
    drawn = np.random.default_rng(config.seed).permutation(len(scans))[:most]
    return tuple(scans[i] for i in sorted(drawn))


def require_lesions(store: Store, config: TrainConfig) -> None:
    """Refuse scans to validate on that cannot choose a checkpoint.

    Raises:
        ConfigError: If none of them has a lesion.
        StoreError: If the store has no scans of the fold.
    """
    if any(scan.lesions for scan in held_out(store, config)):
        return
    if any(scan.lesions for scan in store.validation(config.fold)):
        where = f"validation.max_scans={config.validation.max_scans} draws only scans"
        remedy = "raise it"
    else:
        where = f"fold={config.fold} of store={config.store} has only scans"
        remedy = "use another fold"
    raise ConfigError(
        f"{where} without lesions, so no validation has a pAUC to choose a checkpoint by; {remedy}"
    )


def known_patients(store: Store) -> dict[str, str]:
    """Return series UID -> key of the patient; empty if all scans have the same one.

    A PatientID that all scans share is a placeholder, which other data sets may have as well.
    """
    patients = {scan.series_uid: scan.patient_key for scan in store.scans}
    return patients if len(set(patients.values())) > 1 else {}
