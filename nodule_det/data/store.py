"""The resampled store: one memory-mapped volume and one small JSON per scan, written once.

    ingest ──write_scan()──▶ scans/UID.npy, scans/UID.json ──open_store()──▶ Store ──▶ StoredScan

A scan exists once its JSON exists; the volume is renamed into place before it.  So a store that
was interrupted at any moment holds complete scans only, and ingest resumes it.

The JSON files carry checksums, which :func:`open_store` compares, and those of the volumes, which
:meth:`StoredScan.problems` compares.  Stores of earlier versions have none and stay readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from nodule_det.data.scan import MAX_HU, MIN_HU, Finding, HuVolume, Prepared, ScanEntry
from nodule_det.errors import GeometryError, StoreError
from nodule_det.files import file_checksum, read_sealed, replacing, write_sealed
from nodule_det.geometry import Grid, Triple
from nodule_det.untrusted import open_regular, printable

FORMAT = 1
DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, GeometryError)
"""What damaged values raise."""
MAX_JSON_BYTES = 64 * 2**20
OVERSHOOT_HU = 1000
"""How far interpolation may exceed the range of the scanner at the edge of metal."""
SPACING_MM = (0.05, 50.0)
"""Voxel edges that a store or its sources can have."""


@dataclass(frozen=True)
class StoredScan:
    """One scan of a store; its voxels stay on disk until they are needed."""

    folder: Path
    series_uid: str
    patient_key: str
    fold: int
    """Its fold; ``TEST`` for a scan of the test set."""
    grid: Grid
    findings: tuple[Finding, ...]
    source_spacing_mm: Triple
    """(z, y, x) spacing before it was resampled."""
    lung_packed: str
    vessel_packed: str
    checksums: dict[str, str] = field(default_factory=dict)
    """File name -> checksum; empty in stores of earlier versions."""
    lung_ml: tuple[float, ...] = ()
    """Volume of the right and of the left lung; empty in stores of earlier versions."""
    notes: tuple[str, ...] = ()
    """What was corrected in the scan and what is implausible."""
    source_grid: Grid | None = None
    """Where its voxels lay before it was resampled; None in stores of earlier versions."""

    @property
    def lesions(self) -> tuple[Finding, ...]:
        """The findings that count."""
        return tuple(f for f in self.findings if not f.excluded)

    @property
    def volume_file(self) -> Path:
        """The file of its voxels."""
        return self.folder / f"{self.series_uid}.npy"

    @property
    def labels_file(self) -> Path:
        """The file of its lesion labels, which only some data sets have."""
        return self.folder / f"{self.series_uid}.labels.npy"

    def volume(self) -> HuVolume:
        """Map the (z, y, x) int16 HU, read-only."""
        return _map(self.volume_file, self.grid, np.dtype(np.int16))

    def labels(self) -> NDArray[np.uint8] | None:
        """Map the (z, y, x) uint8 lesion labels, or None where the data set has no masks."""
        path = self.labels_file
        if path.name not in self.checksums and not path.exists():
            return None
        return _map(path, self.grid, np.dtype(np.uint8))

    def lung_blocks(self) -> IntArray:
        """Return (n, 3) first voxels of the blocks that are mostly lung."""
        return np.argwhere(self._unpack(self.lung_packed)) * BLOCK_VOX

    def vessel_blocks(self) -> IntArray:
        """Return (n, 3) first voxels of the blocks of lung that hold dense voxels."""
        return np.argwhere(self._unpack(self.vessel_packed)) * BLOCK_VOX

    def lung_mask(self) -> BoolArray:
        """Return the (z, y, x) mask of the lungs, in steps of a block."""
        return expand(self._unpack(self.lung_packed), self.grid.size_vox)

    def search_mask(self) -> BoolArray:
        """Return the (z, y, x) mask in which candidates count: the lungs and a block around them.

        The centre of a nodule at the chest wall may lie slightly outside the lung mask.
        """
        return grown(self._unpack(self.lung_packed), self.grid.size_vox)

    def is_searched(self, finding: Finding) -> bool:
        """Return whether the centre of a finding lies in :meth:`search_mask`."""
        voxel = np.rint(self.grid.to_voxel(finding.center_mm)).astype(int)
        if (voxel < 0).any() or (voxel >= self.grid.size_vox).any():
            return False
        low, high = np.maximum(voxel // BLOCK_VOX - 1, 0), voxel // BLOCK_VOX + 2
        around = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return bool(self._unpack(self.lung_packed)[around].any())

    def problems(self) -> list[str]:
        """Read all voxels and return what is wrong with them, one line per file."""
        found = []
        try:
            low, high = _extremes(self.volume())
            if low < MIN_HU - OVERSHOOT_HU or high > MAX_HU + OVERSHOOT_HU:
                found.append(f"{self.volume_file} has voxels of {low} to {high} HU")
            self.labels()
            self._unpack(self.lung_packed)
            self._unpack(self.vessel_packed)
        except StoreError as error:
            return [str(error)]
        for name, checksum in self.checksums.items():
            if file_checksum(self.folder / name) != checksum:
                found.append(f"{self.folder / name} differs from its checksum")
        return found

    def _unpack(self, packed: str) -> BoolArray:
        try:
            return unpack(packed, block_shape(self.grid.size_vox))
        except StoreError as error:
            raise StoreError(f"{self.folder / self.series_uid}.json: {error}") from error


TEST = -1
"""In place of a fold: the scan belongs to the test set."""


@dataclass(frozen=True)
class Store:
    """A complete store, opened for reading."""

    path: Path
    settings: dict[str, Any]
    """What it was made with: ``spacing_mm`` and ``margin_mm``."""
    scans: tuple[StoredScan, ...]
    """The scans for training and validation, by series_uid."""
    test: tuple[StoredScan, ...] = ()
    """The scans of the test set, which neither training nor tuning sees, by series_uid."""

    @property
    def spacing_mm(self) -> float:
        """Edge of a voxel."""
        return float(self.settings["spacing_mm"])

    @cached_property
    def folds(self) -> tuple[int, ...]:
        """Folds that have scans."""
        return tuple(sorted({scan.fold for scan in self.scans}))

    @property
    def lesions_by_fold(self) -> dict[int, int]:
        """Number of lesions in each fold that has scans."""
        return {fold: sum(len(s.lesions) for s in self.validation(fold)) for fold in self.folds}

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


@dataclass(frozen=True)
class StoreInfo:
    """The content of ``store.json``."""

    settings: dict[str, float]
    """What the voxels depend on: ``spacing_mm`` and ``margin_mm``."""
    secret_id: str = ""
    """Fingerprint of the secret behind its keys; empty in stores of earlier versions."""
    anonymised: bool = False
    """Whether scans have random keys in place of their names."""


@dataclass(frozen=True)
class Splits:
    """The content of ``splits.json``: who is held out when."""

    how: dict[str, Any]
    """How the folds were drawn."""
    folds: dict[str, int]
    """series_uid -> fold, of the scans in the store that are not in the test set."""
    patients: dict[str, int] = field(default_factory=dict)
    """patient_key -> fold or ``TEST``, also of patients without a scan in the store."""
    test: tuple[str, ...] = ()
    """series_uid of the scans in the test set."""


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Raises:
        StoreError: If it does not exist, is incomplete, damaged, or of another format.
    """
    path = Path(path)
    info = read_info(path)
    if info is None:
        raise StoreError(
            f"store={path} is not a store; create one with: "
            f"python -m nodule_det.data source=FOLDER out={path}"
        )
    splits = read_splits(path)
    if splits is None:
        raise StoreError(
            f"store={path} is incomplete; resume it with the same command: "
            f"python -m nodule_det.data ... out={path}"
        )
    folder = path / "scans"
    scans = tuple(read_scan_json(folder, uid, fold) for uid, fold in sorted(splits.folds.items()))
    test = tuple(read_scan_json(folder, uid, TEST) for uid in sorted(splits.test))
    return Store(path, dict(info.settings), scans, test)


def read_info(path: Path) -> StoreInfo | None:
    """Read ``store.json``; None if there is none.

    Raises:
        StoreError: If it is damaged or of another format.
    """
    file = path / "store.json"
    if not path.is_dir():
        return None
    try:
        content = read_sealed(file, MAX_JSON_BYTES)
        if content["format"] != FORMAT:
            raise StoreError(
                f"{file} has format {printable(str(content['format']), 40)}, this version reads "
                f"{FORMAT}; ingest again into another folder"
            )
        settings = {name: _number(v, name, 0, 100) for name, v in content["settings"].items()}
        _number(settings["spacing_mm"], "spacing_mm", *SPACING_MM)
        return StoreInfo(
            settings,
            _text(content.get("secret_id", "")),
            content.get("anonymised", False) is True,
        )
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        raise StoreError(
            f"{file} is damaged ({_why(error, file)}); ingest again with overwrite=true"
        ) from error


def write_info(path: Path, info: StoreInfo) -> None:
    """Write ``store.json``, which makes a folder a store."""
    write_sealed(path / "store.json", {"format": FORMAT, **asdict(info)})


def read_splits(path: Path) -> Splits | None:
    """Read ``splits.json``; None if there is none, so that the store is incomplete.

    Raises:
        StoreError: If it is damaged.
    """
    file = path / "splits.json"
    try:
        content = read_sealed(file, MAX_JSON_BYTES)
        splits = Splits(
            dict(content.get("how", {})),
            {_stem(uid): _fold(fold, 0) for uid, fold in content["folds"].items()},
            {_text(key): _fold(fold, TEST) for key, fold in content.get("patients", {}).items()},
            tuple(_stem(uid) for uid in content.get("test", ())),
        )
        if both := set(splits.test) & set(splits.folds):
            raise ValueError(f"{min(both)} has a fold and is in the test set")
        return splits
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        raise StoreError(
            f"{file} is damaged ({_why(error, file)}); delete it and run the same ingest again"
        ) from error


def write_splits_json(path: Path, splits: Splits) -> None:
    """Write ``splits.json``, which makes a store complete."""
    content: dict[str, Any] = {"how": splits.how, "folds": splits.folds}
    if splits.patients:
        content["patients"] = splits.patients
    if splits.test:
        content["test"] = list(splits.test)
    write_sealed(path / "splits.json", content)


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
    arrays: dict[str, NDArray[Any]] = {f"{uid}.npy": prepared.volume_hu}
    if prepared.labels is not None:
        arrays[f"{uid}.labels.npy"] = prepared.labels
    for name, array in arrays.items():
        _save(folder / name, array)
    lung = mostly(prepared.lung)
    write_sealed(
        folder / f"{uid}.json",
        {
            "series_uid": uid,
            "patient_key": entry.patient_key,
            "source_stamp": source_stamp,
            "grid": prepared.grid.as_dict(),
            "source_spacing_mm": list(prepared.source_spacing_mm),
            "source_grid": prepared.source_grid and prepared.source_grid.as_dict(),
            "findings": [asdict(f) for f in entry.findings],
            "lung_share": float(prepared.lung.mean()),
            "lung_ml": list(prepared.lung_ml),
            "notes": list(prepared.notes),
            "lung_blocks": pack(lung),
            "vessel_blocks": pack(lung & dense(prepared.volume_hu)),
            "checksums": {name: file_checksum(folder / name) for name in arrays},
        },
    )


def stored_stamp(folder: Path, series_uid: str) -> str | None:
    """Return the stamp that a scan was written with, or None where there is no whole scan.

    Raises:
        StoreError: If its files are damaged; all voxels are read to see that.
    """
    file = folder / f"{series_uid}.json"
    if not file.exists() or not (folder / f"{series_uid}.npy").exists():
        return None
    if problems := read_scan_json(folder, series_uid, 0).problems():
        raise StoreError(problems[0])
    return str(read_sealed(file, MAX_JSON_BYTES).get("source_stamp", ""))


def read_scan_json(folder: Path, series_uid: str, fold: int) -> StoredScan:
    """Read ``UID.json``.

    Raises:
        StoreError: If it is missing or damaged.
    """
    file = folder / f"{series_uid}.json"
    try:
        content = read_sealed(file, MAX_JSON_BYTES)
        checksums = content.get("checksums", {})
        grid, source_grid = _grid(content, "grid"), None
        if content.get("source_grid") is not None:
            source_grid = _grid(content, "source_grid")
        if content.get("series_uid", series_uid) != series_uid:
            raise ValueError(f"it belongs to {content['series_uid']}")
        if not set(checksums) <= {f"{series_uid}.npy", f"{series_uid}.labels.npy"}:
            raise ValueError("it lists files of other scans")
        return StoredScan(
            folder,
            series_uid,
            _text(content["patient_key"]),
            fold,
            grid,
            tuple(_finding(f) for f in content["findings"]),
            _triple(content["source_spacing_mm"], "source_spacing_mm", *SPACING_MM),
            _text(content["lung_blocks"]),
            _text(content["vessel_blocks"]),
            {name: _text(checksum) for name, checksum in checksums.items()},
            tuple(_number(v, "lung_ml", 0, 1e6) for v in content.get("lung_ml", ())),
            tuple(map(_text, content.get("notes", ()))),
            source_grid,
        )
    except DAMAGE as error:
        raise StoreError(
            f"{file} is missing or damaged ({_why(error, file)}); delete it and run the same "
            "ingest again"
        ) from error


def _grid(content: dict[str, Any], name: str) -> Grid:
    size_vox = content[name]["size_vox"]
    if not all(isinstance(n, int) and 0 < n < 2**15 for n in size_vox):
        raise ValueError(f"{name}.size_vox={size_vox}")
    grid = Grid.from_dict(content[name])
    _triple(grid.spacing_mm, f"{name}.spacing_mm", *SPACING_MM)
    _triple(grid.origin_mm, f"{name}.origin_mm", -1e5, 1e5)
    return grid


def _finding(content: dict[str, Any]) -> Finding:
    attributes = {_text(name): _text(value) for name, value in content["attributes"].items()}
    if not isinstance(content["excluded"], bool):
        raise ValueError(f"excluded={content['excluded']}")
    return Finding(
        _triple(content["center_mm"], "center_mm", -1e5, 1e5),
        _number(content["diameter_mm"], "diameter_mm", 0, 1000),
        content["excluded"],
        attributes,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {value}")
    return value


def _stem(value: str) -> str:
    """Check a key that becomes the name of a file in the store."""
    if not value or value.startswith(".") or "/" in value or "\0" in value:
        raise ValueError(f"{value!r} cannot be the key of a scan")
    return value


def _fold(value: object, lowest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value < 10_000:
        raise ValueError(f"{value} is not a fold")
    return value


def _number(value: object, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}={value} is not between {low:g} and {high:g}")
    return float(value)


def _triple(value: Sequence[object], name: str, low: float, high: float) -> Triple:
    a, b, c = (_number(v, name, low, high) for v in value)
    return a, b, c


def _why(error: Exception, file: Path) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    return printable(str(error).removeprefix(f"{file} "), 300)


def _save(path: Path, array: NDArray[Any]) -> None:
    """Do as ``np.save`` does, which does not say why a write failed: a full disk has no errno."""
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(array.data)


def _map(path: Path, grid: Grid, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file that :func:`_save` wrote; its header may say one thing only."""
    expected = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {grid.size_vox}, }}"
    try:
        with open_regular(path) as file:
            magic, length = file.read(8), int.from_bytes(file.read(2), "little")
            header = file.read(length)
            n_bytes = file.seek(0, 2) - 10 - length
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error).removeprefix(f"{path} ")
        raise StoreError(
            f"{path} cannot be read ({why}); delete its .json and run the same ingest again"
        ) from error
    found = header.decode("latin-1").strip()
    if magic != b"\x93NUMPY\x01\x00" or found != expected:
        raise StoreError(
            f"{path} is damaged: its header is {found[:100]!r}, expected {expected!r} from its "
            ".json; delete its .json and run the same ingest again"
        )
    if n_bytes != dtype.itemsize * int(np.prod(grid.size_vox)):
        raise StoreError(
            f"{path} is damaged: it has {n_bytes} bytes of voxels, expected "
            f"{dtype.itemsize * int(np.prod(grid.size_vox))}; delete its .json and run the same "
            "ingest again"
        )
    return np.memmap(path, dtype, "r", 10 + length, grid.size_vox)


def _extremes(volume: HuVolume) -> tuple[int, int]:
    """Return the smallest and the largest voxel, slice by slice."""
    low, high = zip(*((int(s.min()), int(s.max())) for s in volume), strict=True)
    return min(low), max(high)
