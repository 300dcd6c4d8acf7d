"""Claim a store for one ingest at a time, with one set of voxel settings.

    claimed(store, settings) ──▶ store.json, scans/, without the leftovers of a killed ingest

Everything here happens before the first scan is read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nodule_det.config.data import StoreConfig
from nodule_det.data.ingest.keys import PLAIN_KEY, Keys
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import (
    MAX_JSON_BYTES,
    StoreInfo,
    read_info,
    read_splits,
    write_info,
    write_splits_json,
)
from nodule_det.errors import StoreError
from nodule_det.files import read_sealed, write_sealed
from nodule_det.locking import Lock
from nodule_det.progress import counted

MADE_BY = ("spacing_mm", "margin_mm")
"""Settings that determine the voxels; other values need another store."""
LOCK = ".lock"
OLD_SCANS = ".scans.old"


@contextmanager
def claimed(
    store: Path,
    settings: StoreConfig,
    keys: Keys,
    *,
    overwrite: bool = False,
    migrate: bool = False,
) -> Iterator[Path]:
    """Create or resume a store with these settings; yields its folder of scans.

    Raises:
        StoreError: If the folder is a store with other settings, holds anything else, or cannot be
            written, now or later.
        BusyError: If another ingest is writing to it.
    """
    try:
        refuse_foreign(store)
        store.mkdir(parents=True, exist_ok=True)
        with Lock(store / LOCK, f"out={store} is in use by another ingest"):
            found = None if overwrite else read_info(store)
            if overwrite:
                _take_away(store)
            _settle(store, settings, keys, found, migrate=migrate)
            try:
                yield store / "scans"
            finally:
                _sweep(store)
    except OSError as error:
        raise StoreError(
            f"out={store} cannot be written ({error.strerror or error}: "
            f"{error.filename or store}); use a folder with free space that you may write to; "
            "existing scans in it are complete, and the same command resumes"
        ) from error


def refuse_foreign(store: Path) -> None:
    """Refuse a folder that holds anything but a store.

    Raises:
        StoreError: If it holds something else.
    """
    if store.is_dir() and not (store / "store.json").exists():
        strange = sorted(p.name for p in store.iterdir() if not p.name.startswith("."))
        if strange:
            raise StoreError(
                f"out={store} holds {strange[0]} and no store.json, so it is not a store; use a "
                "new or empty folder"
            )


def _settle(
    store: Path, settings: StoreConfig, keys: Keys, found: StoreInfo | None, *, migrate: bool
) -> None:
    wanted = {name: getattr(settings, name) for name in MADE_BY}
    if found is not None and found.settings != wanted:
        odd = next(name for name in MADE_BY if found.settings.get(name) != wanted[name])
        raise StoreError(
            f"out={store} holds a store made with store.{odd}={found.settings.get(odd)}, but you "
            f"requested {wanted[odd]}; use another out=, or overwrite=true to replace it"
        )
    if found is not None:
        _refuse_other_keys(store, found, keys, migrate=migrate)
    (store / "scans").mkdir(exist_ok=True)
    _sweep(store)
    if found is not None and not found.secret_id:
        _migrate(store, keys)
    write_info(store, StoreInfo(wanted, keys.secret_id, keys.anonymise))


def _refuse_other_keys(store: Path, found: StoreInfo, keys: Keys, *, migrate: bool) -> None:
    if found.anonymised != keys.anonymise:
        raise StoreError(
            f"out={store} holds a store made with anonymise={str(found.anonymised).lower()}, but "
            f"you requested {str(keys.anonymise).lower()}; use another out=, or overwrite=true to "
            "replace it"
        )
    if not found.secret_id and not migrate and any((store / "scans").glob("*.json")):
        raise StoreError(
            f"out={store} knows patients by plain hashes of PatientID, from which hospital numbers "
            "can be computed; add migrate=true to replace them by keys from a secret"
        )
    if found.secret_id and found.secret_id != keys.secret_id:
        raise StoreError(
            f"out={store} was made with another secret; set secret= to its file, or overwrite=true "
            "to replace the store"
        )


def _migrate(store: Path, keys: Keys) -> None:
    """Replace the plain hashes of an earlier version's store; repeatable if interrupted."""
    for file in sorted((store / "scans").glob("[!.]*.json")):
        content = read_sealed(file, MAX_JSON_BYTES)
        if PLAIN_KEY.fullmatch(content["patient_key"]):
            content["patient_key"] = keys.patient(content["patient_key"])
            content["source_stamp"] = keys.stamp(content.get("source_stamp", ""))
            content.pop("source_hash", None)
            write_sealed(file, content)
    splits = read_splits(store)
    if splits is not None:
        patients = {
            keys.patient(key) if PLAIN_KEY.fullmatch(key) else key: fold
            for key, fold in splits.patients.items()
        }
        write_splits_json(store, replace(splits, patients=patients))


def _take_away(store: Path) -> None:
    """Delete a store so that at any moment it is either complete or not a store.

    Without ``splits.json`` it is not a store.  The scans are renamed atomically first, because a
    half-deleted scan could pass for a complete one.
    """
    scans = store / "scans"
    if scans.is_symlink():
        raise StoreError(
            f"{scans} is a link to {scans.resolve()}, which overwrite=true does not delete; use "
            "another out=, or delete the scans there yourself"
        )
    for name in ("splits.json", "summary.json", "summary.png"):
        (store / name).unlink(missing_ok=True)
    shutil.rmtree(store / OLD_SCANS, ignore_errors=True)
    if scans.exists():
        scans.rename(store / OLD_SCANS)


def _sweep(store: Path) -> None:
    """Delete temporary files of workers that were ended while they wrote, now or earlier."""
    if (store / OLD_SCANS).exists():
        shutil.rmtree(store / OLD_SCANS)
    for folder in (store, store / "scans"):
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


def refuse_strangers(folder: Path, entries: Sequence[ScanEntry]) -> None:
    """Refuse to mix two data sets in one store.

    Raises:
        StoreError: If the store has scans that the data set does not have.
    """
    known = {e.series_uid for e in entries}
    strange = sorted({p.name.removesuffix(".json") for p in folder.glob("*.json")} - known)
    if strange:
        raise StoreError(
            f"{folder.parent} holds {counted(len(strange), 'scan')} that source= does not have, "
            f"the first is {strange[0]}; use another out=, or delete their .json in {folder} to "
            "leave them out"
        )
