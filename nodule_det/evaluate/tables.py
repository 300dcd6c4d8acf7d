"""DataFrames, dicts of arrays or paths -> candidates, lesions, scans and patients.

pandas is never imported: a DataFrame is whatever has named columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.arrays import FloatArray, StrArray, as_names, as_numbers
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.reading import (
    SIZE,
    read_candidates,
    read_excluded,
    read_lesions,
    read_sizes,
)
from nodule_det.evaluate.scans import ScanList, read_patients, read_scans
from nodule_det.froc import Candidates, Lesions
from nodule_det.progress import counted
from nodule_det.tables import PATIENT

CASE = ("seriesuid", "series_uid", "SeriesInstanceUID", "case")
POINT = (("coordX", "coordY", "coordZ"), ("x", "y", "z"))
SCORE = ("probability", "score")
DIAMETER = ("diameter_mm",)
WORLD = "world_mm"
BOX = "size_mm"

Columns = Any
"""A DataFrame, a dict of arrays, the path of a CSV file, or ``Candidates`` or ``Lesions``."""


def as_candidates(table: Columns) -> Candidates:
    """Convert the output of a detector.

    Args:
        table: Columns ``seriesuid``, ``coordX``, ``coordY``, ``coordZ`` (or ``x``, ``y``, ``z``, or
            one (n, 3) array ``world_mm``) in world mm, and ``probability`` or ``score``.

    Raises:
        FrocInputError: If it is none of these, or a column is missing.
    """
    if isinstance(table, Candidates):
        return table
    if _is_path(table):
        return read_candidates(Path(table))[0]
    names = _names(table, "candidates")
    score = as_numbers(_column(table, SCORE, names, "candidates"), "the scores of candidates")
    return Candidates(_case(table, names, "candidates"), _points(table, names, "candidates"), score)


def as_lesions(table: Columns, what: str = "lesions") -> Lesions:
    """Convert annotated findings.

    Args:
        table: Columns as of :func:`as_candidates`, with ``diameter_mm`` in place of a score.
        what: ``lesions`` or ``excluded``, for the error message and for reading a file.

    Raises:
        FrocInputError: If it is none of these, or a column is missing.
    """
    if isinstance(table, Lesions):
        return table
    if _is_path(table):
        path = Path(table)
        return read_excluded(path) if what == "excluded" else read_lesions(path)[0]
    names = _names(table, what)
    diameter = as_numbers(_column(table, DIAMETER, names, what), f"diameter_mm of {what}")
    return Lesions(_case(table, names, what), _points(table, names, what), diameter)


def as_sizes(table: Columns, what: str) -> FloatArray:
    """Return (n, 3) edges of the boxes of a table, in mm (x, y, z).

    Args:
        table: Columns ``sizeX``, ``sizeY``, ``sizeZ``, or one (n, 3) array ``size_mm``, or
            ``diameter_mm``, the edge of a cube.
        what: Name of the table, for the error message.

    Raises:
        FrocInputError: If it has none of these.
    """
    if _is_path(table):
        return read_sizes(Path(table))
    if isinstance(table, Lesions):
        return np.repeat(table.diameter_mm[:, None], 3, axis=1)
    names = [] if isinstance(table, Candidates) else _names(table, what)
    if BOX in names:
        return as_numbers(table[BOX], f"{BOX} of {what}")
    columns = SIZE if set(SIZE) <= set(names) else DIAMETER * 3
    if columns[0] not in names:
        raise FrocInputError(
            f"{what} have no boxes: hits by boxes need the columns {', '.join(SIZE)} (or {BOX}, or "
            f"{DIAMETER[0]})"
        )
    return np.stack([as_numbers(table[name], f"{name} of {what}") for name in columns], axis=1)


def as_scans(scans: Any, known: set[str]) -> StrArray:
    """Convert the list of evaluated scans.

    Args:
        scans: Ids (a list, array or Series), a table with a column of ids, or a path.
        known: Ids in the other tables.
    """
    if _is_path(scans):
        return read_scans(Path(scans), known).cases
    if _is_table(scans):
        return _case(scans, _names(scans, "scans"), "scans")
    if not hasattr(scans, "__iter__"):
        raise FrocInputError(
            f"scans must be a list of ids, a table or a path, not {type(scans).__name__}"
        )
    return as_names(scans if hasattr(scans, "__array__") else list(scans), "the list of scans")


def as_patients(patients: Any, scans: Any, cases: StrArray) -> dict[str, str] | None:
    """Convert the patient of every scan.

    Args:
        patients: A dict or Series from scan to patient, a table with the columns of scan ids and
            ``patient``, or the path of one.  None takes the column ``patient`` of ``scans``, if
            there is one.
        scans: The list of scans as it was passed.
        cases: Its ids.
    """
    if patients is None:
        if _is_path(scans):
            return read_patients("", read_scans(Path(scans), set(cases.tolist())))
        patients = scans if _is_table(scans) and PATIENT in _names(scans, "scans") else None
        if patients is None:
            return None
    if _is_path(patients):
        return read_patients(str(patients), ScanList(cases, None))
    if _is_table(patients) and PATIENT in _names(patients, "patients"):
        ids, names = _case(patients, _names(patients, "patients"), "patients"), patients[PATIENT]
        if len(ids) != len(names):
            raise FrocInputError(
                f"the table of patients has {counted(len(ids), 'scan')} and "
                f"{counted(len(names), 'patient')}: it needs one patient for each scan"
            )
        return dict(zip(ids.tolist(), list(names), strict=True))
    if hasattr(patients, "items"):
        return {str(scan): patient for scan, patient in patients.items()}
    raise FrocInputError(
        f"patients must be a dict from scan to patient, or a table with the columns {CASE[0]} and "
        f"{PATIENT}, not {type(patients).__name__}"
    )


def _is_path(table: Any) -> bool:
    """Return whether a table is a path; text that cannot be one is refused."""
    if not isinstance(table, str | PathLike):
        return False
    try:
        if "\0" in str(table):
            raise ValueError("it has a null byte")
        Path(table).exists()
    except (OSError, ValueError) as error:
        raise FrocInputError(f"{str(table)[:100]!r} is not a path of a file ({error})") from None
    return True


def _is_table(table: Any) -> bool:
    return isinstance(table, Mapping) or hasattr(table, "columns")


def _names(table: Any, what: str) -> list[str]:
    if not _is_table(table):
        raise FrocInputError(
            f"{what} must be a DataFrame, a dict of arrays or the path of a CSV file, not "
            f"{type(table).__name__}"
        )
    return [str(name) for name in (table if isinstance(table, Mapping) else table.columns)]


def _column(table: Any, choices: Sequence[str], names: list[str], what: str) -> Any:
    found = [name for name in choices if name in names]
    if len(found) != 1:
        problem = f"has the columns {' and '.join(found)}" if found else "lacks the column"
        raise FrocInputError(
            f"the table of {what} {problem}{'' if found else ' ' + ' or '.join(choices)}: its "
            f"columns are {', '.join(names)}"
        )
    return table[found[0]]


def _case(table: Any, names: list[str], what: str) -> StrArray:
    return as_names(_column(table, CASE, names, what), f"the case ids of {what}")


def _points(table: Any, names: list[str], what: str) -> FloatArray:
    if WORLD in names:
        return as_numbers(table[WORLD], f"{WORLD} of {what}")
    axes = next((axes for axes in POINT if set(axes) <= set(names)), None)
    if axes is None:
        raise FrocInputError(
            f"the table of {what} lacks the columns {', '.join(POINT[0])} (or {WORLD}): its "
            f"columns are {', '.join(names)}"
        )
    columns = [as_numbers(table[axis], f"{axis} of {what}") for axis in axes]
    if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
        raise FrocInputError(f"{', '.join(axes)} of {what} must be columns of the same length")
    return np.stack(columns, axis=1)
