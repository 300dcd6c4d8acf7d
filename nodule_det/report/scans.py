"""The voxels of a report: from the store of a training, or any folder of scans.

store=, images= ──open_scans()──▶ Scans.read(uid) ──▶ (HU, Grid, slices of the source)
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


@dataclass(frozen=True)
class Scans:
    """The scans of a report, read one at a time.

    Attributes:
        read: series_uid -> (z, y, x) HU and their grid.
        patients: series_uid -> patient, if some scans share one.
        resampled: Whether slices come from a store rather than the source series.
    """

    read: Callable[[str], tuple[HuVolume, Grid]]
    patients: dict[str, str] | None
    resampled: bool


def from_store(path: str, uids: Sequence[str]) -> Scans:
    """Read scans from a store.

    Raises:
        StoreError: If the store is missing, or lacks one of the scans.
    """
    scans = {scan.series_uid: scan for scan in open_store(path).scans}
    missing = [uid for uid in uids if uid not in scans]
    if missing:
        raise StoreError(
            f"store={path} lacks {len(missing)} of the {len(uids)} scans, such as {missing[0]}; "
            "set store=FOLDER to the store that holds them"
        )
    patients = {uid: scans[uid].patient_key for uid in uids}
    return Scans(
        read=lambda uid: (scans[uid].volume(), scans[uid].grid),
        patients=patients if len(set(patients.values())) < len(uids) else None,
        resampled=True,
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
            f"images={folder} lacks {len(missing)} of the {len(uids)} scans, such as {missing[0]}; "
            f"it has {len(paths)}, such as {min(paths)}"
        )

    def read(uid: str) -> tuple[HuVolume, Grid]:
        scan = read_entry(paths[uid])
        return scan.volume_hu, scan.grid

    return Scans(read=read, patients=None, resampled=False)


def find_store(recorded: str, run: Path) -> str:
    """Return the path of a run's store, which is recorded as the user typed it.

    A relative path is tried from the working directory and from every folder above the run.
    """
    bases = [Path(), *run.resolve().parents]
    there = [base / recorded for base in bases if (base / recorded / "store.json").is_file()]
    return str(there[0]) if there else recorded
