"""CSV files -> arrays for the FROC analysis.  LUNA16's own files are read as they are.

candidates.csv, annotations.csv, scans.csv, excluded.csv ──read_job()──▶ Job
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nodule_det.arrays import FloatArray, StrArray
from nodule_det.errors import TableError
from nodule_det.evaluate.scans import read_patients, read_scans
from nodule_det.froc import NO_LESIONS, Candidates, Lesions
from nodule_det.origin import Origin, read_origin
from nodule_det.tables import (
    ANNOTATION_COLUMNS,
    DIAMETER,
    PROBABILITY,
    SERIES,
    Table,
    X,
    Y,
    Z,
    read_table,
)

SIZE = ("sizeX", "sizeY", "sizeZ")
"""Columns with the edges of a box in mm."""
SCORE = "score"
"""What a column of scores may be called instead of LUNA16's ``probability``."""

ID_BYTES = "S80"
"""Type of an id in the fast way: a DICOM UID has at most 64 characters."""


@dataclass(frozen=True)
class Job:
    """Everything that is evaluated, and the tables it was read from.

    Attributes:
        cases: (n_cases,) ids of all evaluated scans.
        lesions: Findings that count, in the order of ``lesion_table``.
        candidates: Output of the detector, in the order of its file.
        excluded: Findings that are neither lesion nor background.
        lesion_table: The annotation file with all its columns.
        n_trimmed: Ids that had blanks around them.
        patients: Patient of every scan; None where none are named.
        origin: Which network the candidates are from; None where that is not known.
    """

    cases: StrArray
    lesions: Lesions
    candidates: Candidates
    excluded: Lesions
    lesion_table: Table
    n_trimmed: int
    patients: dict[str, str] | None = None
    origin: Origin | None = None


def read_job(
    candidates: Path,
    annotations: Path,
    scans: Path,
    excluded: Path | None,
    patients: str = "",
) -> Job:
    """Read all files of an evaluation.

    Args:
        candidates: CSV of a detector.
        annotations: CSV of the lesions that count.
        scans: List of all evaluated scans.
        excluded: CSV of findings that are neither lesion nor false positive.
        patients: CSV of patients, or a column of ``scans``; see :func:`scans.read_patients`.

    Raises:
        TableError: If one is missing or damaged, or holds a value that makes no sense.
        ConfigError: If ``patients`` is neither a file nor a column.
    """
    lesions, lesion_table = read_lesions(annotations)
    found, n_blanks = read_candidates(candidates)
    left_out = read_excluded(excluded) if excluded else NO_LESIONS
    known = {name for table in (lesions, found, left_out) for name in np.unique(table.case)}
    listed = read_scans(scans, known)
    return Job(
        cases=listed.cases,
        lesions=lesions,
        candidates=found,
        excluded=left_out,
        lesion_table=lesion_table,
        n_trimmed=n_blanks + _blanks(lesion_table.columns[SERIES]),
        patients=read_patients(patients, listed),
        origin=read_origin(candidates),
    )


def read_candidates(path: Path) -> tuple[Candidates, int]:
    """Read LUNA16's submission format; the column of scores may also be called ``score``.

    Returns:
        The candidates, and how many ids had blanks around them.
    """
    read = _read_plain(path)
    if read is not None:
        return read
    table = read_table(path, (SERIES, X, Y, Z), allow_empty=True)
    score = table.numbers(_score_column(path, list(table.columns)))
    return Candidates(_cases(table), _points(table), score), _blanks(table.columns[SERIES])


def _read_plain(path: Path) -> tuple[Candidates, int] | None:
    """Read a large, flawless file fast, or return None for the slow way with its errors."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8-sig", errors="replace") as f:
        header = [name.strip() for name in f.readline().split(",")]
    if not {SERIES, X, Y, Z} <= set(header) or len(set(header)) < len(header):
        return None
    score = _score_column(path, header)
    kinds = {SERIES: ID_BYTES, X: "f8", Y: "f8", Z: "f8", score: "f8"}
    columns = np.dtype([(name, kinds.get(name, "S1")) for name in header])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = np.loadtxt(
                path, columns, delimiter=",", skiprows=1, comments=None, quotechar='"',
                encoding="utf-8-sig", ndmin=1,
            )  # fmt: skip
    except (ValueError, OSError, UserWarning):
        return None
    names, of_row = np.unique(rows[SERIES], return_inverse=True)
    points = np.stack([rows[X], rows[Y], rows[Z]], axis=1)
    if (np.char.str_len(names) == names.itemsize).any() or not np.isfinite(points).all():
        return None
    decoded = [name.decode("latin-1") for name in names.tolist()]
    trimmed = [name.strip() for name in decoded]
    n_trimmed = int(np.isin(of_row, [i for i, n in enumerate(decoded) if n != trimmed[i]]).sum())
    return Candidates(np.array(trimmed, np.str_)[of_row], points, rows[score]), n_trimmed


def _score_column(path: Path, header: list[str]) -> str:
    names = [name for name in (PROBABILITY, SCORE) if name in header]
    if len(names) != 1:
        raise TableError(
            f"{path} has {'both' if names else 'neither'} a column {PROBABILITY} "
            f"{'and' if names else 'nor'} {SCORE}; its header is {','.join(header)!r}"
        )
    return names[0]


def read_lesions(path: Path) -> tuple[Lesions, Table]:
    """Read the findings that count; the table has their further columns."""
    table = read_table(path, ANNOTATION_COLUMNS, allow_empty=True)
    diameter = table.numbers(DIAMETER)
    bad = np.flatnonzero(~(diameter > 0) | ~np.isfinite(diameter))
    if len(bad):
        raise TableError(
            f"{path} line {table.line[bad[0]]} has {DIAMETER}={diameter[bad[0]]:g}: a lesion that "
            "counts needs a positive diameter (findings without one belong in excluded=FILE.csv)"
        )
    return Lesions(_cases(table), _points(table), diameter), table


def read_excluded(path: Path) -> Lesions:
    """Read findings that are neither; a diameter that is -1, 0 or empty means 10 mm."""
    table = read_table(path, ANNOTATION_COLUMNS, allow_empty=True)
    cells = [cell or "nan" for cell in table.text(DIAMETER)]
    diameter = replace(table, columns={**table.columns, DIAMETER: cells}).numbers(DIAMETER)
    bad = np.flatnonzero(np.isposinf(diameter))
    if len(bad):
        raise TableError(
            f"{path} line {table.line[bad[0]]} has {DIAMETER}=inf, which would exclude the whole "
            "scan: use -1 where the diameter is unknown"
        )
    return Lesions(_cases(table), _points(table), diameter)


def read_sizes(path: Path) -> FloatArray:
    """Read (n, 3) edges of boxes in mm (x, y, z): columns ``sizeX`` ..., or ``diameter_mm``.

    An empty cell is NaN.

    Raises:
        TableError: If the file has neither.
    """
    table = read_table(path, (), allow_empty=True)
    names = SIZE if set(SIZE) <= set(table.columns) else (DIAMETER,) * 3
    if names[0] not in table.columns:
        raise TableError(
            f"{path} has no boxes: hits by boxes need the columns {','.join(SIZE)} (edges in mm) "
            f"or {DIAMETER}; its header is {','.join(table.columns)!r}"
        )
    filled = {name: [cell or "nan" for cell in table.text(name)] for name in set(names)}
    table = replace(table, columns={**table.columns, **filled})
    return np.stack([table.numbers(name) for name in names], axis=1)


def _blanks(ids: list[str]) -> int:
    return sum(id_ != id_.strip() for id_ in ids)


def _cases(table: Table) -> StrArray:
    return np.array(table.text(SERIES), np.str_)


def _points(table: Table) -> FloatArray:
    points = np.stack([table.numbers(c) for c in (X, Y, Z)], axis=1)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise TableError(
            f"{table.path} line {table.line[bad[0]]} has a coordinate that is not finite: "
            f"{points[bad[0]].tolist()}"
        )
    return points
