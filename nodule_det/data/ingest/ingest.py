"""Ingest: every scan of a data set -> the store, in parallel, and again after any interruption.

    ScanEntry ──read_scan──▶ Scan ──prepare──▶ write_scan ──▶ scans/UID.json
    all of them ──▶ splits.json, summary.json, summary.png

One scan is one task of a worker process.  What stands and is made from the same files is skipped;
what fails is reported at the end with its reason, and stops nothing else.  Only a full disk stops
everything: every further scan would be computed for nothing.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nodule_det.config.data import DataConfig, StoreConfig
from nodule_det.data.ingest.claim import claimed, refuse_strangers
from nodule_det.data.ingest.source import source_stamp
from nodule_det.data.ingest.splits import refuse_other_splits, write_splits
from nodule_det.data.ingest.summary import write_summary
from nodule_det.data.ingest.workers import Died, crew_size, spread
from nodule_det.data.layouts.detect import check_findings
from nodule_det.data.preprocess.prepare import prepare
from nodule_det.data.readers.read import read_mask, read_scan
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import stored_stamp, write_scan
from nodule_det.errors import NoduleDetError, StoreError
from nodule_det.progress import Progress

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
CHECKERS = 4
"""Stored scans whose checksums are compared at the same time."""


@dataclass(frozen=True)
class Failure:
    """Why a scan is not in the store."""

    reason: str
    disk_full: bool = False


@dataclass(frozen=True)
class Outcome:
    """What ingest came to."""

    store: Path
    n_scans: int
    n_lesions: int
    n_lesions_outside_lungs: int
    """Lesions whose centre lies where no candidate is looked for."""
    failures: dict[str, str]
    """series_uid -> reason."""


def ingest(entries: Sequence[ScanEntry], config: DataConfig) -> Outcome:
    """Bring all scans into the store.

    Raises:
        StoreError: If something else stands there (a store of other settings or of another data
            set), another ingest is at work, the folder cannot be written, or the disk is full.
    """
    store = Path(config.out)
    with claimed(store, config.store, overwrite=config.overwrite) as folder:
        refuse_strangers(folder, entries)
        refuse_other_splits(store, entries, config.store)
        missing = [e for e, done in zip(entries, _stand(entries, folder), strict=True) if not done]
        failures = _ingest_all(missing, folder, config, len(entries))
        stored = [e.series_uid for e in entries if e.series_uid not in failures]
        write_splits(store, entries, stored, config.store)
        summary = write_summary(store, failures)
    return Outcome(
        store,
        len(stored),
        summary["n_lesions"],
        sum(summary["lesions_outside_lungs"].values()),
        failures,
    )


def _stand(entries: Sequence[ScanEntry], folder: Path) -> list[bool]:
    """Check the scans of the store, several at a time: checksums are computed beside Python."""
    with ThreadPoolExecutor(CHECKERS) as pool:
        return list(pool.map(partial(stands, folder=folder), entries))


def stands(entry: ScanEntry, folder: Path) -> bool:
    """Return whether a scan is in the store undamaged, made from the present files and findings."""
    try:
        stamp = stored_stamp(folder, entry.series_uid)
        return stamp is not None and stamp == source_stamp(entry)
    except (NoduleDetError, OSError):
        return False  # damaged in the store, or in the source: reading that says how


def _ingest_all(
    entries: Sequence[ScanEntry], folder: Path, config: DataConfig, total: int
) -> dict[str, str]:
    failures: dict[str, str] = {}
    with Progress("ingest", total) as progress, closing(_run(entries, folder, config)) as results:
        progress.start_at(total - len(entries))
        for entry, failure in results:
            if failure is not None and failure.disk_full:
                raise StoreError(
                    f"{failure.reason}; {progress.done} of {total} scans stand in {folder.parent}; "
                    "free some room there and give the same command again"
                )
            if failure is not None:
                failures[entry.series_uid] = failure.reason
            progress.advance(f"{len(failures)} failed" if failures else "")
    return failures


def _run(
    entries: Sequence[ScanEntry], folder: Path, config: DataConfig
) -> Generator[tuple[ScanEntry, Failure | None], None, None]:
    """Ingest scans, in worker processes if there is more than one; yields in the order they end."""
    task = partial(ingest_scan, folder=folder, config=config.store)
    workers = crew_size(config.workers, len(entries))
    if workers == 1:
        yield from ((entry, task(entry)) for entry in entries)
        return
    for entry, result in spread(task, entries, workers):
        yield entry, _death(result) if isinstance(result, Died) else result


def _death(died: Died) -> Failure:
    if died.exit_code == -signal.SIGKILL:
        return Failure(
            "its worker process was killed (out of memory?); the same command goes on, and "
            "workers=1 needs the least memory"
        )
    return Failure(
        f"its worker process ended with exit code {died.exit_code}, see above; the same command "
        "tries it again"
    )


def ingest_scan(entry: ScanEntry, folder: Path, config: StoreConfig) -> Failure | None:
    """Bring one scan into the store; gives the reason if that fails."""
    try:
        # Before reading: a file that changes under our hands is then read again next time.
        stamp = source_stamp(entry)
        scan = read_scan(entry.path, entry.series_uid)
        check_findings(entry, scan.grid)
        lung = read_mask(entry.lung_mask, scan.grid) if entry.lung_mask else None
        labels = read_mask(entry.lesion_mask, scan.grid) if entry.lesion_mask else None
        prepared = prepare(scan, config, entry.findings, mask=lung, labels=labels)
        write_scan(folder, entry, prepared, stamp)
    except NoduleDetError as error:
        return Failure(str(error))
    except OSError as error:
        where = error.filename or f"{folder} (scan {entry.series_uid})"
        full = error.errno in DISK_FULL
        return Failure(f"{where}: {error.strerror or error}", disk_full=full)
    except MemoryError as error:
        return Failure(f"not enough memory ({error}); workers=1 needs the least")
    return None
