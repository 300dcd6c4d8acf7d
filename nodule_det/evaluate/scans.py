"""The list of evaluated scans, and which patient each belongs to.

scans.csv, patients.csv ──read_scans(), read_patients()──▶ ids, {scan: patient}
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_det.arrays import StrArray
from nodule_det.errors import ConfigError, TableError
from nodule_det.tables import PATIENT, SERIES, Table, read_table

SERIES_NAMES = ("seriesuid", "seriesinstanceuid")
"""What a column of scan ids may be called, without capitals, blanks and underscores."""


@dataclass(frozen=True)
class ScanList:
    """The evaluated scans.

    Attributes:
        cases: (n_cases,) ids.
        table: The file with all its columns; None where it is a list without header.
    """

    cases: StrArray
    table: Table | None


def read_scans(path: Path, known: Collection[str] = ()) -> ScanList:
    """Read the ids of scans: a column ``seriesuid``, or one id a line as in LUNA16's own list.

    The column may also be called ``series_uid`` or ``SeriesInstanceUID``.

    Args:
        path: CSV file.
        known: Ids in the other files of the evaluation.

    Raises:
        TableError: If there is no id, a file without header has several columns, or the first line
            of a list looks like a header that is not known.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise TableError(f"{path} does not exist: use the path of a CSV file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as UTF-8 text ({error})") from None
    first = next((line for line in lines if line.strip()), "")
    column = _series_column(re.split("[,;\t]", first))
    if column is not None and column not in known:
        table = read_table(Path(path), (column,))
        return ScanList(np.array(table.text(column), np.str_), table)
    ids = [line.strip().strip('"').strip() for line in lines if line.strip()]
    _check_list(path, ids, known)
    return ScanList(np.array(ids, np.str_), None)


def _series_column(header: list[str]) -> str | None:
    for name in header:
        bare = name.strip().strip('"').strip()
        if re.sub(r"[\s_]", "", bare).lower() in SERIES_NAMES:
            return bare
    return None


def _check_list(path: Path, ids: list[str], known: Collection[str]) -> None:
    if not ids:
        raise TableError(f"{path} is empty: it needs the id of every evaluated scan, one per line")
    for id_ in ids:
        if any(mark in id_ for mark in ",;\t"):
            raise TableError(
                f"{path} has several columns but no header with {SERIES}: {id_!r}; "
                f"add the header, or keep one id per line"
            )
    if ids[0] not in known and _is_word(ids[0]) and not any(_is_word(id_) for id_ in ids[1:]):
        raise TableError(
            f"{path} starts with {ids[0]!r}, which looks like a header and is not an id in the "
            f"other files: call the column {SERIES}, or remove the line"
        )


def _is_word(text: str) -> bool:
    """Return whether a line has no digit, which ids of scans mostly have, and several letters."""
    return re.fullmatch(r"[^\W\d][^\d]+", text) is not None


def read_patients(setting: str, scans: ScanList) -> dict[str, str] | None:
    """Read the patient of every scan.

    Args:
        setting: A CSV file with columns ``seriesuid`` and ``patient``, or the name of a column of
            the list of scans; empty for its column ``patient``, if it has one.
        scans: The list of scans.

    Returns:
        The patient of each scan; None where none are named.

    Raises:
        ConfigError: If ``setting`` is neither a file nor a column.
        TableError: If a scan has no patient, or two.
    """
    columns: list[str] = []
    if scans.table is not None:
        columns = list(scans.table.columns)
        column = setting or PATIENT
        if column in columns:
            return dict(zip(scans.cases.tolist(), scans.table.text(column), strict=True))
    if not setting:
        return None
    if not Path(setting).is_file():
        raise ConfigError(
            f"patients={setting} is neither a file nor a column of the list of scans"
            f"{' (' + ', '.join(columns) + ')' if columns else ''}: use patients=FILE.csv with the "
            f"columns {SERIES},{PATIENT}"
        )
    table = read_table(Path(setting), (SERIES, PATIENT))
    patients: dict[str, str] = {}
    for uid, patient in zip(table.text(SERIES), table.text(PATIENT), strict=True):
        if patients.setdefault(uid, patient) != patient:
            raise TableError(
                f"{setting} names two patients of scan {uid}: {patients[uid]!r} and {patient!r}"
            )
    return patients
