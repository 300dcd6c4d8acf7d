"""``python -m nodule_det.baseline``: candidates of the blob detector in the scans of a store.

store ──find_blobs()──▶ candidates.csv
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command
from nodule_det.config.baseline import BaselineConfig
from nodule_det.errors import ConfigError, NoduleDetError
from nodule_det.progress import counted

if TYPE_CHECKING:  # SciPy waits until the settings are read
    from nodule_det.candidates import ScanCandidates
    from nodule_det.data.store import StoredScan


@command("baseline", BaselineConfig)
def main(config: BaselineConfig) -> None:
    """Write the candidates of the requested scans."""
    from nodule_det.candidates import write_candidates

    scans = _chosen(config)
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_candidates(out, _of_each(scans, config.workers))
    print(f"candidates of {counted(len(scans), 'scan')}  {out}")


def _chosen(config: BaselineConfig) -> list[StoredScan]:
    """Return the requested scans of the store, in the order of the list."""
    from nodule_det.data.store import open_store
    from nodule_det.tables import SERIES, read_table

    store = open_store(config.store)
    if config.scans is None:
        return list(store.scans)
    there = {scan.series_uid: scan for scan in store.scans}
    asked = read_table(Path(config.scans), (SERIES,)).text(SERIES)
    missing = [uid for uid in asked if uid not in there]
    if missing:
        raise ConfigError(
            f"scans={config.scans} names {counted(len(missing), 'scan')} that store={config.store} "
            f"does not have, the first {missing[0]}; use a list that was made from this store"
        )
    return [there[uid] for uid in asked]


def _of_each(scans: list[StoredScan], workers: int) -> Iterator[tuple[str, ScanCandidates]]:
    """Yield the blobs of every scan, in the scans' order; uses processes if ``workers`` > 1."""
    from nodule_det.baseline.blobs import of_scan
    from nodule_det.data.ingest.workers import Crew, Died, crew_size, spread
    from nodule_det.progress import track

    workers = crew_size(workers, len(scans))
    if workers == 1:
        yield from ((s.series_uid, of_scan(s)) for s in track(scans, "blobs", len(scans)))
        return
    found: dict[str, ScanCandidates] = {}
    for scan, result in track(spread(of_scan, scans, Crew(workers)), "blobs", len(scans)):
        if isinstance(result, Died):
            raise NoduleDetError(
                f"the process that searched {scan.series_uid} ended with exit code "
                f"{result.exit_code}; if memory ran out, use workers=1, which needs the least"
            )
        found[scan.series_uid] = result
    yield from ((scan.series_uid, found[scan.series_uid]) for scan in scans)


if __name__ == "__main__":
    main()
