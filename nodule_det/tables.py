"""Read CSV files of any origin: byte-order marks, semicolons, blank lines, damaged rows, no rows.

path ──read_table()──▶ Table ──text(), numbers()──▶ columns, or an error that names the line
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.errors import TableError
from nodule_det.files import replacing

SERIES, X, Y, Z = "seriesuid", "coordX", "coordY", "coordZ"
DIAMETER, PROBABILITY = "diameter_mm", "probability"
PATIENT = "patient"
"""Column with the patient of each scan, in a list of scans."""
ANNOTATION_COLUMNS = (SERIES, X, Y, Z, DIAMETER)
"""LUNA16's ``annotations.csv``; world mm, LPS."""
CANDIDATE_COLUMNS = (SERIES, X, Y, Z, PROBABILITY)
"""LUNA16's submission format; ours adds ``diameter_mm`` as a sixth column."""
FORMULA = ("=", "+", "-", "@")
"""Characters that make a spreadsheet run a cell as a formula if it starts with one."""

LONGEST_CELL = 200
"""Number of characters of a cell or row that an error message quotes."""


@dataclass(frozen=True)
class Table:
    """A CSV file as columns of text, with the line number of each row."""

    path: Path
    columns: dict[str, list[str]]
    line: list[int]
    """Line of each row in the file, counted from 1."""

    def __len__(self) -> int:
        return len(self.line)

    def text(self, column: str) -> list[str]:
        """Return a column with blanks stripped; the inverse of :func:`write_table`."""
        cells = [cell.strip() for cell in self.columns[column]]
        return [
            cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell for cell in cells
        ]

    def numbers(self, column: str) -> FloatArray:
        """Return a column as (n,) float64.

        Raises:
            TableError: If a cell is not a number; ``nan`` and ``inf`` are numbers here.
        """
        cells = self.columns[column]
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            return np.array([self._number(column, i) for i in range(len(cells))])

    def _number(self, column: str, row: int) -> float:
        cell = self.columns[column][row]
        try:
            return float(cell)
        except ValueError:
            hint = ": write decimals with a point" if "," in cell else ""
            raise TableError(
                f"{self.path} line {self.line[row]}: {column}={cell[:LONGEST_CELL]!r} is not a "
                f"number{hint}"
            ) from None


def read_table(path: Path, required: Sequence[str], *, allow_empty: bool = False) -> Table:
    """Read a CSV file with a header line.

    Commas, semicolons or tabs may separate the columns, as in the header.  A byte-order mark and
    blank lines are skipped.  Additional columns are kept.

    Raises:
        TableError: If the file is missing, empty or not text, lacks a required column, has a row
            that differs in length from its header, or has no rows (unless ``allow_empty``).
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise TableError(f"{path} is not a regular file: use the path of a CSV file")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TableError(f"{path} does not exist: use the path of a CSV file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as UTF-8 text ({error})") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise TableError(f"{path} is empty: it needs a header line {','.join(required)}")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise TableError(f"{path} line {reader.line_num} cannot be read as CSV ({error})") from None
    if not rows:
        raise TableError(f"{path} has only blank cells: it needs a header {','.join(required)}")
    header = [name.strip() for name in rows[0][1]]
    _check_header(path, header, required)
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise TableError(
                f"{path} line {line} has {len(row)} cells, its header has {len(header)}: "
                f"{delimiter.join(row)[:LONGEST_CELL]!r}"
            )
    if len(rows) == 1 and not allow_empty:
        raise TableError(f"{path} has a header but no rows")
    cells = list(zip(*(row for _, row in rows[1:]), strict=True)) or [()] * len(header)
    columns = {name: list(column) for name, column in zip(header, cells, strict=True)}
    return Table(path, columns, [line for line, _ in rows[1:]])


def _check_header(path: Path, header: list[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise TableError(
            f"{path} lacks the column {', '.join(missing)}; its header is "
            f"{','.join(header)[:LONGEST_CELL]!r}, "
            f"expected {','.join(required)}"
        )
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise TableError(f"{path} has the column {', '.join(sorted(twice))[:LONGEST_CELL]} twice")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file atomically; floats keep all their digits.

    Text that a spreadsheet would run as a formula (``=1+1``) is prefixed with an apostrophe, which
    :meth:`Table.text` removes.  Control characters become blanks.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow([_harmless(name) for name in header])
        writer.writerows([_harmless(cell) for cell in row] for row in rows)


def _harmless(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = "".join(c if c.isprintable() else " " for c in cell)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
