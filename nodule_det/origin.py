"""Which scans a network has seen, so that its figures are called what they are.

    training ──ScanRecord──▶ checkpoint, model.json ──▶ candidates.origin.json ──▶ evaluate, report

A figure on scans that a network was trained on says nothing, and one on scans that chose its
checkpoint, or on other scans of the same patients, is too high.  So every checkpoint lists these
scans and patients, as hashes of their keys, and every table of candidates has a small file beside
it that says which network it is from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nodule_det.errors import TableError
from nodule_det.files import read_sealed, write_sealed
from nodule_det.progress import of_total
from nodule_det.untrusted import printable

DIGITS = 16
"""Hexadecimal digits of a key: two of a million scans collide with a chance of 3e-8."""

MAX_BYTES = 64 * 2**20
MAX_KIND = 200

PATIENT_KEY = re.compile(r"p[0-9a-f]{20}")
"""A patient's key in a store, which cannot be computed from a hospital number without the secret of
the store.  Stores of earlier versions have plain hashes instead, which no record may contain."""
NO_PATIENTS: Mapping[str, str] = MappingProxyType({})

VALIDATION = "validation"
CROSS_VALIDATED = "cross-validated"
TEST_ONCE = "test, evaluated once"
TEST_FOLD = "test fold, evaluated once"


def scan_key(series_uid: str) -> str:
    """Return the key under which records list a scan: a hash of its series UID or name.

    It can be compared with a scan at hand, but not turned back into a UID other than by trying.
    """
    return _hash("scan", series_uid)


@dataclass(frozen=True)
class ScanRecord:
    """Keys of the scans and patients that a network has seen; empty where that is not known."""

    trained: frozenset[str] = frozenset()
    """Scans whose patches it was trained on."""
    selected: frozenset[str] = frozenset()
    """Scans whose validation chose its checkpoint."""
    trained_patients: frozenset[str] = frozenset()
    """Patients of the scans that it was trained on; records of earlier versions have none."""
    selected_patients: frozenset[str] = frozenset()
    """Patients of the scans whose validation chose its checkpoint."""

    @classmethod
    def of(
        cls,
        trained: Iterable[str],
        selected: Iterable[str],
        patients: Mapping[str, str] = NO_PATIENTS,
    ) -> ScanRecord:
        """Make the record of a training.

        Args:
            trained: Series UIDs of the scans that it is trained on.
            selected: Series UIDs of the scans that choose its checkpoint.
            patients: series UID -> key of the patient in the store, where it is known.
        """
        trained, selected = frozenset(trained), frozenset(selected)
        return cls(
            frozenset(map(scan_key, trained)),
            frozenset(map(scan_key, selected)),
            _patients(trained, patients),
            _patients(selected, patients),
        )

    @classmethod
    def from_dict(cls, value: Any) -> ScanRecord:
        """Read what :meth:`as_dict` returned, in this version or an earlier one.

        Raises:
            ValueError, TypeError: If it is something else.
        """
        if not isinstance(value, dict):
            raise TypeError("the record of scans is not an object")
        return cls(
            _keys(value.get("trained")),
            _keys(value.get("selected")),
            _keys(value.get("trained_patients", [])),
            _keys(value.get("selected_patients", [])),
        )

    def as_dict(self) -> dict[str, list[str]]:
        """Return plain lists, sorted, so that their order says nothing."""
        return {field.name: sorted(getattr(self, field.name)) for field in fields(self)}

    @property
    def known(self) -> bool:
        """Whether anything is recorded; checkpoints of earlier versions have no record."""
        return bool(self.trained)

    def name_of(self, series_uid: str, key: str) -> str:
        """Return the name under which a scan may be listed: its own, or its key in a store."""
        own = scan_key(series_uid)
        return series_uid if own in self.trained or own in self.selected else key

    def n_trained(self, series_uids: Iterable[str]) -> int:
        """Count the scans that the network was trained on."""
        return sum(scan_key(uid) in self.trained for uid in series_uids)

    def n_selected(self, series_uids: Iterable[str]) -> int:
        """Count the scans that only chose the checkpoint."""
        only = self.selected - self.trained
        return sum(scan_key(uid) in only for uid in series_uids)

    def n_of_trained_patients(self, series_uids: Iterable[str], patients: Mapping[str, str]) -> int:
        """Count the scans that the network was not trained on, but on others of their patients.

        Args:
            series_uids: The scans.
            patients: series UID -> key of the patient in a store, where it is known.
        """
        new = (uid for uid in series_uids if scan_key(uid) not in self.trained)
        return sum(bool(_patients([uid], patients) & self.trained_patients) for uid in new)

    def n_of_selected_patients(
        self, series_uids: Iterable[str], patients: Mapping[str, str]
    ) -> int:
        """Count the new scans of patients whose other scans only chose the checkpoint.

        Args are those of :meth:`n_of_trained_patients`.
        """
        only = self.selected_patients - self.trained_patients
        seen = self.trained | self.selected
        new = (uid for uid in series_uids if scan_key(uid) not in seen)
        return sum(bool(_patients([uid], patients) & only) for uid in new)


UNKNOWN = ScanRecord()
"""The record of a network that has none."""


def union(records: Iterable[ScanRecord]) -> ScanRecord:
    """Return what an ensemble has seen; not known if one of its members is not."""
    every = list(records)
    if not all(record.known for record in every):
        return UNKNOWN
    return ScanRecord(
        frozenset().union(*(record.trained for record in every)),
        frozenset().union(*(record.selected for record in every)),
        frozenset().union(*(record.trained_patients for record in every)),
        frozenset().union(*(record.selected_patients for record in every)),
    )


def _hash(use: str, text: str) -> str:
    data = f"nodule_det {use} {text}".encode(errors="surrogateescape")
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def _patients(series_uids: Iterable[str], patients: Mapping[str, str]) -> frozenset[str]:
    """Return the hashes of the patients of these scans, of those with a key from a secret."""
    keys = (patients.get(uid, "") for uid in series_uids)
    return frozenset(_hash("patient", key) for key in keys if PATIENT_KEY.fullmatch(key))


def _keys(value: Any) -> frozenset[str]:
    if not isinstance(value, list | tuple):
        raise TypeError("the record of scans is not a list")
    for key in value:
        if not isinstance(key, str) or not re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", key):
            raise ValueError(f"{key!r} is not the key of a scan")
    return frozenset(value)


@dataclass(frozen=True)
class Origin:
    """Where a table of candidates comes from."""

    kind: str = ""
    """Kind of its figures, such as "cross-validated"; empty where only the scans can say it."""
    scans: ScanRecord = UNKNOWN
    """What the network has seen."""

    def kind_on(self, series_uids: Iterable[str], patients: Mapping[str, str] = NO_PATIENTS) -> str:
        """Say which kind of figures the candidates of these scans give; empty if not known.

        Args:
            series_uids: The scans.
            patients: series UID -> key of the patient in a store, where it is known.
        """
        if self.kind or not self.scans.known:
            return self.kind
        uids = list(series_uids)
        n_all = len(uids)
        if n := self.scans.n_trained(uids):
            return f"training (the network was trained on {of_total(n, n_all, 'scan')})"
        if n := self.scans.n_of_trained_patients(uids, patients):
            of = of_total(n, n_all, "scan")
            return f"training (the network was trained on the patients of {of})"
        if n := self.scans.n_selected(uids):
            return f"validation ({of_total(n, n_all, 'scan')} chose the checkpoint)"
        if n := self.scans.n_of_selected_patients(uids, patients):
            of = of_total(n, n_all, "scan")
            return f"validation (the patients of {of} chose the checkpoint)"
        return "test (the network has seen none of the scans)"

    def warnings(
        self, series_uids: Iterable[str], patients: Mapping[str, str] = NO_PATIENTS
    ) -> list[str]:
        """Return a line for each way in which the network has seen these scans or patients before.

        Args are those of :meth:`kind_on`.
        """
        uids = list(series_uids)
        found = []
        if n := self.scans.n_trained(uids):
            found.append(
                f"the network was trained on {of_total(n, len(uids), 'scan')}: figures on these "
                "say nothing about new scans"
            )
        if n := self.scans.n_of_trained_patients(uids, patients):
            found.append(
                "the network was trained on other scans of the patients of "
                f"{of_total(n, len(uids), 'scan')}: figures on these are too high for new patients"
            )
        if self.kind.startswith(VALIDATION):  # its scans chose the checkpoint, as its kind says
            return found
        if n := self.scans.n_selected(uids):
            found.append(
                f"{of_total(n, len(uids), 'scan')} chose the network's checkpoint: figures on "
                "these are too high for new scans"
            )
        if n := self.scans.n_of_selected_patients(uids, patients):
            found.append(
                f"other scans of the patients of {of_total(n, len(uids), 'scan')} chose the "
                "network's checkpoint: figures on these are too high for new patients"
            )
        return found


def validation_kind(n_checkpoints: int) -> str:
    """Name the kind of figures of the best validation of a run.

    Example:
        >>> validation_kind(9)
        'validation, best of 9 checkpoints'
    """
    many = f"best of {n_checkpoints} checkpoints" if n_checkpoints > 1 else "one checkpoint"
    return f"{VALIDATION}, {many}"


def origin_file(candidates: Path) -> Path:
    """Return the file that says where a table of candidates comes from."""
    return candidates.with_suffix(".origin.json")


def write_origin(candidates: Path, origin: Origin) -> None:
    """Write the file beside a table of candidates, whole or not at all."""
    content = {"kind": origin.kind, "scans": origin.scans.as_dict()}
    write_sealed(origin_file(candidates), content)


def read_origin(candidates: Path) -> Origin | None:
    """Read the file beside a table of candidates; None where there is none.

    Raises:
        TableError: If it is damaged.
    """
    file = origin_file(candidates)
    try:
        content = read_sealed(file, MAX_BYTES)
        kind = content.get("kind")
        if not isinstance(kind, str):
            raise TypeError("its kind is not text")
        return Origin(printable(kind, MAX_KIND), ScanRecord.from_dict(content.get("scans")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        why = printable(str(error).removeprefix(f"{file} "), 300)
        raise TableError(
            f"{file} is damaged ({why}); delete it to evaluate without it, or write the candidates "
            "again"
        ) from error
