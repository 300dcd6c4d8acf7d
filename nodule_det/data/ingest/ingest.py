"""Ingest: every scan of a data set -> the store, in parallel, and again after any interruption.

    ScanEntry ──read_scan──▶ Scan ──prepare──▶ write_scan ──▶ scans/UID.json
    all of them ──▶ splits.json, summary.json, summary.png

Each scan is one task of a worker process.  A stored scan made from the same files is skipped.  A
scan that fails is reported at the end with the reason, and the others continue.  Only a full disk
stops everything, because any further scan would be wasted.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nodule_det.config.data import DataConfig, StoreConfig
from nodule_det.data.ingest.claim import claimed, refuse_foreign, refuse_strangers
from nodule_det.data.ingest.keys import (
    Keys,
    allowed,
    names_file,
    open_secret,
    read_secret,
    secret_file,
    write_names,
)
from nodule_det.data.ingest.prepared import read_prepared
from nodule_det.data.ingest.privacy import scrubber
from nodule_det.data.ingest.source import source_stamp
from nodule_det.data.ingest.splits import Plan, refuse_other_splits, write_splits
from nodule_det.data.ingest.summary import write_summary
from nodule_det.data.ingest.workers import Crew, Died, crew_size, spread, why_died
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import read_info, stored_stamp, write_scan
from nodule_det.errors import ConfigError, NoduleDetError, StoreError, TableError
from nodule_det.progress import Progress, counted, of_total
from nodule_det.tables import SERIES, read_table
from nodule_det.untrusted import printable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
CHECKERS = 4
"""Number of stored scans whose checksums are compared at the same time."""


@dataclass(frozen=True)
class Failure:
    """Why a scan is not in the store."""

    reason: str
    disk_full: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of an ingest."""

    store: Path
    n_scans: int
    n_lesions: int
    n_lesions_outside_lungs: int
    """Number of lesions whose centre lies outside the searched region."""
    failures: dict[str, str]
    """series_uid -> reason."""
    notes: dict[str, list[str]]
    """series_uid -> corrections made to the scan, and implausible properties."""


def ingest(entries: Sequence[ScanEntry], config: DataConfig) -> Outcome:
    """Ingest all scans into the store.

    Raises:
        StoreError: If ``out`` holds something else (a store with other settings or of another data
            set), the folder cannot be written, or the disk is full.
        BusyError: If another ingest is writing to it.
    """
    store = Path(config.out)
    keys = open_keys(config)
    entries = [allowed(entry, config.columns) for entry in entries]
    private = [keys.entry(entry) for entry in entries]
    plan = Plan(entries, config.store, keys.patient, named_test_set(entries, config.store))
    with claimed(
        store, config.store, keys, overwrite=config.overwrite, migrate=config.migrate
    ) as folder:
        refuse_strangers(folder, private)
        refuse_other_splits(store, plan)
        missing = [
            e for e, ok in zip(entries, _up_to_date(entries, folder, keys), strict=True) if not ok
        ]
        if config.anonymise:  # before any result exists that could not be mapped back
            write_names(names_file(config.out), entries, keys, {})
        reasons = _ingest_all(missing, folder, config, keys, len(entries))
        if config.anonymise:
            write_names(names_file(config.out), entries, keys, reasons)
        failures = _publishable(reasons, entries, keys, config)
        stored = {e.series_uid: keys.scan(e.series_uid) for e in entries}
        write_splits(store, plan, {u: key for u, key in stored.items() if key not in reasons})
        summary = write_summary(store, failures)
    return Outcome(
        store,
        len(entries) - len(failures),
        summary["n_lesions"],
        sum(summary["lesions_outside_lungs"].values()),
        failures,
        summary["notes"],
    )


def open_keys(config: DataConfig) -> Keys:
    """Read the secret of a store, or create one for a new store.

    Raises:
        StoreError: If the store has a secret whose file is missing.
    """
    path = secret_file(config.out, config.secret)
    if read_secret(path) is None:
        info = None if config.overwrite else read_info(Path(config.out))
        if info is not None and info.secret_id:
            raise StoreError(
                f"the secret of out={config.out} is not at {path}; restore that file, set secret= "
                "to it, or use overwrite=true to replace the store"
            )
        refuse_foreign(Path(config.out))
    return Keys(open_secret(path, f"out={config.out}"), config.anonymise)


def named_test_set(entries: Sequence[ScanEntry], config: StoreConfig) -> frozenset[str]:
    """Return the patients of the scans that ``store.test_scans`` names, or of the data set's own.

    Raises:
        ConfigError: If ``store.test_fraction`` would draw another test set than the data set's own.
        TableError: If one of the scans is not in the data set.
    """
    if config.test_scans is None:
        own = frozenset(e.patient_key for e in entries if e.test)
        if own and config.test_fraction:
            raise ConfigError(
                "the data set has its own test set of "
                f"{counted(sum(e.test for e in entries), 'scan')}, so "
                f"store.test_fraction={config.test_fraction} cannot draw one; remove it, or list "
                "the scans of another one in store.test_scans"
            )
        return own
    patients = {e.series_uid: e.patient_key for e in entries}
    names = read_table(Path(config.test_scans), (SERIES,)).text(SERIES)
    unknown = [name for name in names if name not in patients]
    if unknown:
        raise TableError(
            f"store.test_scans={config.test_scans} names {counted(len(unknown), 'scan')} that "
            f"source= does not have, the first is {unknown[0]}"
        )
    return frozenset(patients[name] for name in names)


def _publishable(
    reasons: dict[str, str], entries: Sequence[ScanEntry], keys: Keys, config: DataConfig
) -> dict[str, str]:
    """Return the failures in a form that may be shown: without the data set's folder or names."""
    if config.anonymise:
        return dict.fromkeys(reasons, f"see {names_file(config.out).name} beside the store")
    by_key = {keys.scan(e.series_uid): e for e in entries}
    return {
        key: printable(scrubber(Path(config.source), by_key[key])(reason))
        for key, reason in reasons.items()
    }


def _up_to_date(entries: Sequence[ScanEntry], folder: Path, keys: Keys) -> list[bool]:
    """Return which scans are up to date, several at a time: hashing releases Python's lock."""
    with ThreadPoolExecutor(CHECKERS) as pool:
        return list(pool.map(partial(is_up_to_date, folder=folder, keys=keys), entries))


def is_up_to_date(entry: ScanEntry, folder: Path, keys: Keys) -> bool:
    """Return whether an intact scan is in the store, made from the present files and findings."""
    try:
        stamp = stored_stamp(folder, keys.scan(entry.series_uid))
        unchanged = stamp is not None and stamp == keys.stamp(source_stamp(entry))
        return unchanged and entry.problem is None
    except (NoduleDetError, OSError):
        return False  # damaged in the store or the source: reading the source reports the fault


def _ingest_all(
    entries: Sequence[ScanEntry], folder: Path, config: DataConfig, keys: Keys, total: int
) -> dict[str, str]:
    """Ingest scans; returns key -> reason of those that failed."""
    failures: dict[str, str] = {}
    results = _run(entries, folder, config, keys)
    with Progress("ingest", total) as progress, closing(results):
        progress.start_at(total - len(entries))
        for entry, failure in results:
            if failure is not None and failure.disk_full:
                raise StoreError(
                    f"{failure.reason}; {of_total(progress.done, total, 'scan', 'is', 'are')} "
                    f"complete in {folder.parent}; free some space there and run the same command "
                    "again"
                )
            if failure is not None:
                failures[keys.scan(entry.series_uid)] = failure.reason
            progress.advance(f"{len(failures)} failed" if failures else "")
    return failures


def _run(
    entries: Sequence[ScanEntry], folder: Path, config: DataConfig, keys: Keys
) -> Generator[tuple[ScanEntry, Failure | None], None, None]:
    """Ingest scans in worker processes, even if only one: a crashing reader loses only one scan."""
    task = partial(ingest_scan, folder=folder, config=config.store, keys=keys)
    workers = crew_size(config.workers, len(entries))
    crew = Crew(workers, config.scan_timeout_s, silent=config.anonymise)
    for entry, result in spread(task, entries, crew):
        yield entry, Failure(why_died(result)) if isinstance(result, Died) else result


def ingest_scan(entry: ScanEntry, folder: Path, config: StoreConfig, keys: Keys) -> Failure | None:
    """Ingest one scan into the store; return the reason if that fails."""
    try:
        if entry.problem is not None:
            return Failure(entry.problem)
        # Stamp before reading: if a file changes meanwhile, it is read again next time.
        stamp = source_stamp(entry)
        write_scan(folder, keys.entry(entry), read_prepared(entry, config), keys.stamp(stamp))
    except NoduleDetError as error:
        return Failure(str(error))
    except OSError as error:
        where = error.filename or f"{folder} (scan {keys.scan(entry.series_uid)})"
        full = error.errno in DISK_FULL
        return Failure(f"{where}: {error.strerror or error}", disk_full=full)
    except MemoryError as error:
        return Failure(f"not enough memory ({error}); workers=1 needs the least")
    return None
