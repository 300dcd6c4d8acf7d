"""Ingest: every scan of a data set -> the store, in parallel, and again after any interruption.

    ScanEntry ──read_scan──▶ Scan ──prepare──▶ write_scan ──▶ scans/UID.json
    all of them ──▶ splits.json, summary.json, summary.png

One scan is one task of a worker process.  What stands already is skipped; what fails is reported
at the end with its reason, and stops nothing else.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from nodule_det.config.data import DataConfig, StoreConfig
from nodule_det.data.layouts import check_findings
from nodule_det.data.prepare import prepare
from nodule_det.data.readers import read_mask, read_scan
from nodule_det.data.scan import ScanEntry
from nodule_det.data.splits import draw_folds
from nodule_det.data.store import read_settings, write_scan, write_settings
from nodule_det.data.summary import write_summary
from nodule_det.errors import NoduleDetError, StoreError
from nodule_det.progress import Progress
from nodule_det.runs import write_json

MADE_BY = ("spacing_mm", "margin_mm")
"""Settings that the voxels depend on; a store of others is another store."""


@dataclass(frozen=True)
class Outcome:
    """What ingest came to."""

    store: Path
    n_scans: int
    n_lesions: int
    failures: dict[str, str]
    """series_uid -> reason."""


def ingest(entries: Sequence[ScanEntry], config: DataConfig) -> Outcome:
    """Bring all scans into the store.

    Raises:
        StoreError: If a store of other settings stands there, or the folder cannot be written.
    """
    store = Path(config.out)
    claim(store, config.store, overwrite=config.overwrite)
    folder = store / "scans"
    missing = [e for e in entries if not (folder / f"{e.series_uid}.json").exists()]
    failures: dict[str, str] = {}
    with Progress("ingest", len(entries)) as progress:
        progress.start_at(len(entries) - len(missing))
        for uid, reason in _run(missing, folder, config):
            if reason is not None:
                failures[uid] = reason
            progress.advance(f"{len(failures)} failed" if failures else "")
    stored = [e for e in entries if e.series_uid not in failures]
    _write_splits(store, stored, config.store)
    n_lesions = write_summary(store, failures)
    return Outcome(store, len(stored), n_lesions, failures)


def claim(store: Path, settings: StoreConfig, *, overwrite: bool) -> None:
    """Make the folder a store of these settings, or go on with one.

    Raises:
        StoreError: If a store of other settings stands there, or the folder cannot be written.
    """
    wanted = {name: getattr(settings, name) for name in MADE_BY}
    try:
        found = read_settings(store)
        if found is not None and found != wanted and not overwrite:
            odd = next(name for name in MADE_BY if found.get(name) != wanted[name])
            raise StoreError(
                f"out={store} holds a store made with store.{odd}={found.get(odd)}, asked is "
                f"{wanted[odd]}; give another out=, or overwrite=true to make it anew"
            )
        if found is not None and overwrite:
            shutil.rmtree(store / "scans", ignore_errors=False)
        (store / "scans").mkdir(parents=True, exist_ok=True)
        write_settings(store, wanted)
    except OSError as error:
        raise StoreError(
            f"out={store} cannot be written ({error.strerror}: {error.filename}); give a folder "
            "that you may write to"
        ) from error


def _run(
    entries: Sequence[ScanEntry], folder: Path, config: DataConfig
) -> Iterator[tuple[str, str | None]]:
    """Ingest scans in worker processes; yields (series_uid, reason of failure or None)."""
    workers = min(config.workers or len(os.sched_getaffinity(0)), max(1, len(entries)))
    if workers == 1:
        for entry in entries:
            yield entry.series_uid, ingest_scan(entry, folder, config.store)
        return
    # spawn: a forked child may inherit a lock that another thread of ITK's was holding
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = {pool.submit(ingest_scan, e, folder, config.store): e.series_uid for e in entries}
        for job in as_completed(jobs):
            try:
                yield jobs[job], job.result()
            except BrokenProcessPool:
                yield (
                    jobs[job],
                    (
                        "a worker process was killed (out of memory?); the same command goes on, "
                        "workers=1 needs the least memory"
                    ),
                )


def ingest_scan(entry: ScanEntry, folder: Path, config: StoreConfig) -> str | None:
    """Bring one scan into the store; gives the reason if that fails."""
    try:
        scan = read_scan(entry.path, entry.series_uid)
        check_findings(entry, scan.grid)
        lung = read_mask(entry.lung_mask, scan.grid) if entry.lung_mask else None
        labels = read_mask(entry.lesion_mask, scan.grid) if entry.lesion_mask else None
        prepared = prepare(scan, config, entry.findings, mask=lung, labels=labels)
        write_scan(
            folder,
            series_uid=entry.series_uid,
            patient_key=entry.patient_key,
            source_hash=source_hash(entry.path),
            volume_hu=prepared.volume_hu,
            grid=prepared.grid,
            lung=prepared.lung,
            findings=entry.findings,
            source_spacing_mm=scan.grid.spacing_mm,
            labels=prepared.labels,
        )
    except NoduleDetError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}; free some room and run it again"
    return None


def source_hash(path: Path) -> str:
    """Hash the files of a scan: names and contents, SHA-256."""
    digest = hashlib.sha256()
    files = sorted(path.iterdir()) if path.is_dir() else sorted(path.parent.glob(path.stem + ".*"))
    for file in files:
        if file.is_file():
            digest.update(file.name.encode())
            with open(file, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _write_splits(store: Path, entries: Sequence[ScanEntry], config: StoreConfig) -> None:
    own = all(e.fold is not None for e in entries)
    if own:
        folds = {e.series_uid: e.fold for e in entries}
        how: dict[str, object] = {"by": "the layout's own folds"}
    else:
        folds = dict(
            draw_folds(
                {e.series_uid: e.patient_key for e in entries}, config.folds, config.split_seed
            )
        )
        how = {"by": "patient", "folds": config.folds, "seed": config.split_seed}
    write_json(store / "splits.json", {"how": how, "folds": folds})
