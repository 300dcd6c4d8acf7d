"""The resampled store: one memory-mapped volume and one small JSON per scan, written once.

    ingest ──write_scan()──▶ scans/UID.npy, scans/UID.json ──open_store()──▶ Store ──▶ StoredScan

A scan is there when its JSON is there; the volume is renamed into place before it.  So a store
cut short at any moment holds whole scans and nothing else, and ingest goes on with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.arrays import BoolArray, IntArray
from nodule_det.data.blocks import (
    BLOCK_VOX,
    block_shape,
    dense,
    expand,
    grown,
    mostly,
    pack,
    unpack,
)
from nodule_det.data.scan import Finding, HuVolume, Prepared, ScanEntry
from nodule_det.errors import StoreError
from nodule_det.files import replacing, write_json
from nodule_det.geometry import Grid, Triple

FORMAT = 1


@dataclass(frozen=True)
class StoredScan:
    """One scan of a store; its voxels stay on disk until asked for."""

    folder: Path
    series_uid: str
    patient_key: str
    fold: int
    grid: Grid
    findings: tuple[Finding, ...]
    source_spacing_mm: Triple
    """(z, y, x) spacing before it was resampled."""
    lung_packed: str
    vessel_packed: str

    @property
    def lesions(self) -> tuple[Finding, ...]:
        """The findings that count."""
        return tuple(f for f in self.findings if not f.excluded)

    def volume(self) -> HuVolume:
        """Map the (z, y, x) int16 HU, read-only."""
        return _map(self.folder / f"{self.series_uid}.npy", self.grid)

    def labels(self) -> NDArray[np.uint8] | None:
        """Map the (z, y, x) uint8 lesion labels, or None where the data set brings no masks."""
        path = self.folder / f"{self.series_uid}.labels.npy"
        return _map(path, self.grid) if path.exists() else None

    def lung_blocks(self) -> IntArray:
        """Return (n, 3) first voxels of the blocks that are mostly lung."""
        return np.argwhere(unpack(self.lung_packed, self.block_shape)) * BLOCK_VOX

    def vessel_blocks(self) -> IntArray:
        """Return (n, 3) first voxels of the blocks of lung that hold dense voxels."""
        return np.argwhere(unpack(self.vessel_packed, self.block_shape)) * BLOCK_VOX

    def lung_mask(self) -> BoolArray:
        """Return the (z, y, x) mask of the lungs, in steps of a block."""
        return expand(unpack(self.lung_packed, self.block_shape), self.grid.size_vox)

    def search_mask(self) -> BoolArray:
        """Return the (z, y, x) mask in which candidates count: the lungs and a block around them.

        The centre of a nodule at the wall may lie a little outside the mask of the lungs.
        """
        return grown(unpack(self.lung_packed, self.block_shape), self.grid.size_vox)

    def is_searched(self, finding: Finding) -> bool:
        """Return whether the centre of a finding lies in :meth:`search_mask`."""
        voxel = np.rint(self.grid.to_voxel(finding.center_mm)).astype(int)
        if (voxel < 0).any() or (voxel >= self.grid.size_vox).any():
            return False
        low, high = np.maximum(voxel // BLOCK_VOX - 1, 0), voxel // BLOCK_VOX + 2
        around = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return bool(unpack(self.lung_packed, self.block_shape)[around].any())

    @property
    def block_shape(self) -> tuple[int, int, int]:
        """Blocks along each axis; the last ones may be cut by the volume's end."""
        return block_shape(self.grid.size_vox)


@dataclass(frozen=True)
class Store:
    """A finished store, opened for reading."""

    path: Path
    settings: dict[str, Any]
    """What it was made with; ``spacing_mm`` and the rest of ``StoreConfig``."""
    scans: tuple[StoredScan, ...]
    """All scans, by series_uid."""

    @property
    def spacing_mm(self) -> float:
        """Edge of a voxel."""
        return float(self.settings["spacing_mm"])

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Folds that have scans."""
        return tuple(sorted({scan.fold for scan in self.scans}))

    def training(self, fold: int) -> tuple[StoredScan, ...]:
        """Return the scans of all other folds."""
        self._check(fold)
        return tuple(scan for scan in self.scans if scan.fold != fold)

    def validation(self, fold: int) -> tuple[StoredScan, ...]:
        """Return the scans of a fold."""
        self._check(fold)
        return tuple(scan for scan in self.scans if scan.fold == fold)

    def _check(self, fold: int) -> None:
        if fold not in self.folds:
            raise StoreError(
                f"fold={fold} has no scans in the store {self.path}; it has {list(self.folds)}"
            )


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Raises:
        StoreError: If there is none, it is unfinished, or of another format.
    """
    path = Path(path)
    settings = read_settings(path)
    if settings is None:
        raise StoreError(
            f"store={path} holds no store; make one: "
            f"python -m nodule_det.data source=FOLDER out={path}"
        )
    splits_file = path / "splits.json"
    if not splits_file.exists():
        raise StoreError(
            f"store={path} is unfinished; go on with it by the same command: "
            f"python -m nodule_det.data ... out={path}"
        )
    folds = json.loads(splits_file.read_text())["folds"]
    scans = tuple(_read_scan(path / "scans", uid, fold) for uid, fold in sorted(folds.items()))
    return Store(path, settings, scans)


def read_settings(path: Path) -> dict[str, Any] | None:
    """Read what a store was made with; None where there is no store.

    Raises:
        StoreError: If it is of another format.
    """
    file = path / "store.json"
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text())
        version, settings = content["format"], content["settings"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error}); make the store again") from error
    if version != FORMAT:
        raise StoreError(f"{file} has format {version}, this version reads {FORMAT}; make it again")
    return dict(settings)


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Claim a folder as a store of these settings."""
    write_json(path / "store.json", {"format": FORMAT, "settings": settings})


def write_scan(folder: Path, entry: ScanEntry, prepared: Prepared, source_stamp: str = "") -> None:
    """Write a scan whole or not at all, after removing an earlier one of the same key.

    Args:
        folder: ``scans`` folder of the store.
        entry: The scan's keys and findings; its ``series_uid`` is the stem of the files.
        prepared: Voxels, lung mask and labels in the grid of the store.
        source_stamp: What :func:`stored_stamp` returns.
    """
    uid = entry.series_uid
    (folder / f"{uid}.json").unlink(missing_ok=True)
    (folder / f"{uid}.labels.npy").unlink(missing_ok=True)
    if prepared.labels is not None:
        _save(folder / f"{uid}.labels.npy", prepared.labels)
    _save(folder / f"{uid}.npy", prepared.volume_hu)
    lung = mostly(prepared.lung)
    write_json(
        folder / f"{uid}.json",
        {
            "series_uid": uid,
            "patient_key": entry.patient_key,
            "source_stamp": source_stamp,
            "grid": prepared.grid.as_dict(),
            "source_spacing_mm": list(prepared.source_spacing_mm),
            "findings": [asdict(f) for f in entry.findings],
            "lung_share": float(prepared.lung.mean()),
            "lung_blocks": pack(lung),
            "vessel_blocks": pack(lung & dense(prepared.volume_hu)),
        },
    )


def stored_stamp(folder: Path, series_uid: str) -> str | None:
    """Return the stamp that a scan was written with, or None where there is no whole scan."""
    file = folder / f"{series_uid}.json"
    try:
        stamp = json.loads(file.read_text())["source_stamp"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None
    return str(stamp) if (folder / f"{series_uid}.npy").exists() else None


def _save(path: Path, array: NDArray[Any]) -> None:
    """Do as ``np.save`` does, which does not say why a write failed: a full disk has no errno."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def _read_scan(folder: Path, series_uid: str, fold: int) -> StoredScan:
    file = folder / f"{series_uid}.json"
    try:
        content = json.loads(file.read_text())
        findings = tuple(
            Finding(tuple(f["center_mm"]), f["diameter_mm"], f["excluded"], f["attributes"])
            for f in content["findings"]
        )
        return StoredScan(
            folder,
            series_uid,
            content["patient_key"],
            fold,
            Grid.from_dict(content["grid"]),
            findings,
            tuple(content["source_spacing_mm"]),
            content["lung_blocks"],
            content["vessel_blocks"],
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{file} is missing or damaged ({error}); delete it, ingest again"
        ) from error


def _map(path: Path, grid: Grid) -> NDArray[Any]:
    try:
        volume: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} is missing or damaged ({error}); delete its .json and ingest again"
        ) from error
    if volume.shape != grid.size_vox:
        raise StoreError(
            f"{path} has {volume.shape} voxels, its .json says {grid.size_vox}; "
            "delete both and ingest again"
        )
    return volume
