"""Read findings from a CSV with LUNA16's columns, and check that it matches the scans.

    annotations.csv, annotations_excluded.csv ──read_findings()──▶ series_uid -> [Finding]
                                                └─refuse_strangers()──▶ or an error

Additional columns become ``Finding.attributes``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from nodule_det import tables
from nodule_det.data.scan import DEFAULT_EXCLUDED_MM, Finding
from nodule_det.errors import LayoutError, TableError
from nodule_det.untrusted import printable

Findings = dict[str, list[Finding]]


def read_findings(path: Path, *, excluded: bool = False) -> Findings:
    """Read a CSV of lesions or of excluded findings.

    Args:
        path: CSV with ``seriesuid,coordX,coordY,coordZ,diameter_mm``; world mm, LPS.
        excluded: Whether they are excluded findings.  An excluded finding without a diameter
            (LUNA16 writes -1) gets ``DEFAULT_EXCLUDED_MM``.

    Returns:
        Findings of each series in the file, in the order of its lines.

    Raises:
        TableError: If the file is damaged (:func:`nodule_det.tables.read_table`), a coordinate
            is not finite, a lesion has no diameter, or a lesion is listed twice.
    """
    table = tables.read_table(path, tables.ANNOTATION_COLUMNS, allow_empty=excluded)
    points = np.stack([table.numbers(c) for c in (tables.X, tables.Y, tables.Z)], axis=1)
    diameters = table.numbers(tables.DIAMETER)
    more = {c: table.text(c) for c in table.columns if c not in tables.ANNOTATION_COLUMNS}
    found: Findings = {}
    for i, uid in enumerate(table.text(tables.SERIES)):
        where = f"{path} line {table.line[i]}"
        diameter_mm = float(diameters[i])
        if not np.isfinite(points[i]).all() or not np.isfinite(diameter_mm):
            raise TableError(f"{where} has a coordinate or diameter that is not a finite number")
        if diameter_mm <= 0 and not excluded:
            raise TableError(
                f"{where} has diameter_mm={diameter_mm:g}; a lesion needs one above 0 (findings "
                "without a diameter belong into the CSV of excluded findings)"
            )
        x, y, z = (float(v) for v in points[i])
        finding = Finding(
            (x, y, z),
            diameter_mm if diameter_mm > 0 else DEFAULT_EXCLUDED_MM,
            excluded,
            {name: cells[i] for name, cells in more.items()},
        )
        if not excluded and any(f.center_mm == finding.center_mm for f in found.get(uid, ())):
            raise TableError(f"{where} has the same lesion as a line before it; delete one")
        found.setdefault(uid, []).append(finding)
    return found


def refuse_strangers(path: Path, findings: Findings, known: Collection[str], where: str) -> None:
    """Refuse a CSV that names an unknown series.

    Args:
        path: The CSV.
        findings: Its findings.
        known: Series that it may name.
        where: Where the series were searched for, for the message.

    Raises:
        TableError: If it names an unknown series.
    """
    strangers = sorted(set(findings) - set(known))
    if strangers:
        raise TableError(
            f"{path} names the unknown series {printable(strangers[0], 200)}"
            f"{_and_more(strangers)}, which "
            f"{where} does not have; correct the CSV, or set partial=true to leave such lines out"
        )


def refuse_missing(root: Path, listed: Collection[str], on_disk: Collection[str]) -> None:
    """Refuse a data set that lists scans which are missing on disk.

    Raises:
        LayoutError: If a listed scan is missing.
    """
    missing = sorted(set(listed) - set(on_disk))
    if missing:
        raise LayoutError(
            f"{root} lists the series {missing[0]}{_and_more(missing)}, but its scan is not "
            "there; complete the download, or set partial=true to work with the scans that are"
        )


def _and_more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
