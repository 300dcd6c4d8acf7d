"""Which scans belong to which patient, from a CSV, if the files do not say so.

ScanEntry + patients.csv ──with_patients()──▶ ScanEntry with the key of its patient
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import TableError
from nodule_det.progress import of_total
from nodule_det.tables import SERIES, read_table

PATIENT = "patient"


def with_patients(entries: Sequence[ScanEntry], path: Path) -> list[ScanEntry]:
    """Return the entries with the patients that a table assigns to them.

    Args:
        entries: All scans of a data set.
        path: CSV with the columns ``seriesuid`` and ``patient``; rows of other scans are ignored.

    Raises:
        TableError: If a scan has no row, no patient, or two different ones.
    """
    table = read_table(path, (SERIES, PATIENT))
    patients: dict[str, str] = {}
    for line, uid, name in zip(table.line, table.text(SERIES), table.text(PATIENT), strict=True):
        if not name:
            raise TableError(f"patients={path} line {line}: {uid} has no patient; fill the cell")
        if patients.setdefault(uid, name) != name:
            raise TableError(f"patients={path} line {line}: {uid} has two patients; remove one")
    missing = [e.series_uid for e in entries if e.series_uid not in patients]
    if missing:
        raise TableError(
            f"patients={path} lacks {of_total(len(missing), len(entries), 'scan')}, the first is "
            f"{missing[0]}; add a row for each"
        )
    return [replace(e, patient_key=patient_key(patients[e.series_uid])) for e in entries]
