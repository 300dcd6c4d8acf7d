"""The voxels of a report: from the store of a training, or any folder of scans.

store=, images= ──from_store(), from_images()──▶ Scans.read(uid) ──▶ ScanVoxels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodule_det.data.readers.read import find_scans, read_entry
from nodule_det.data.scan import HuVolume
from nodule_det.data.store import open_store
from nodule_det.errors import ScanError, StoreError
from nodule_det.geometry import Grid
from nodule_det.progress import of_total


@dataclass(frozen=True)
class ScanVoxels:
    """A scan of a report.

    Attributes:
        volume_hu: (z, y, x) HU.
        grid: Where its voxels lie.
        source: Where those of the source series lie; None in stores of earlier versions.
    """

    volume_hu: HuVolume
    grid: Grid
    source: Grid | None


@dataclass(frozen=True)
class Scans:
    """The scans of a report, read one at a time.

    Attributes:
        read: series_uid -> its voxels.
        patients: series_uid -> patient, if some scans share one.
    """

    read: Callable[[str], ScanVoxels]
    patients: dict[str, str] | None


def from_store(path: str, uids: Sequence[str]) -> Scans:
    """Read scans from a store.

    Raises:
        StoreError: If the store is missing, or lacks one of the scans.
    """
    scans = {scan.series_uid: scan for scan in open_store(path).scans}
    missing = [uid for uid in uids if uid not in scans]
    if missing:
        raise StoreError(
            f"store={path} lacks {of_total(len(missing), len(uids), 'scan')}, such as "
            f"{missing[0]}; set store=FOLDER to the store that holds them"
        )
    patients = {uid: scans[uid].patient_key for uid in uids}
    return Scans(
        read=lambda uid: ScanVoxels(scans[uid].volume(), scans[uid].grid, scans[uid].source_grid),
        patients=patients if len(set(patients.values())) < len(uids) else None,
    )


def from_images(folder: str, uids: Sequence[str]) -> Scans:
    """Read scans from image files (DICOM series, MetaImage or NIfTI) in any subfolders.

    Raises:
        ScanError: If one of the scans is missing or cannot be read.
    """
    paths = {scan.series_uid: scan for scan in find_scans(Path(folder))}
    missing = [uid for uid in uids if uid not in paths]
    if missing:
        raise ScanError(
            f"images={folder} lacks {of_total(len(missing), len(uids), 'scan')}, such as "
            f"{missing[0]}; it has {len(paths)}, such as {min(paths)}"
        )

    def read(uid: str) -> ScanVoxels:
        scan = read_entry(paths[uid])
        return ScanVoxels(scan.volume_hu, scan.grid, scan.grid)

    return Scans(read=read, patients=None)


def find_store(recorded: str, run: Path) -> str:
    """Return the path of a run's store, which is recorded as the user typed it.

    A relative path is tried from the working directory and from every folder above the run.
    """
    bases = [Path(), *run.resolve().parents]
    there = [base / recorded for base in bases if (base / recorded / "store.json").is_file()]
    return str(there[0]) if there else recorded
