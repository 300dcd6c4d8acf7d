"""The results of a validation in the run folder: tables that ``evaluate`` reads, and figures.

Validation ──publish()──▶ candidates.csv, its origin, annotations*.csv, scans.csv, froc.json, *.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nodule_det.candidates import write_candidates
from nodule_det.data.store import StoredScan
from nodule_det.files import write_json
from nodule_det.origin import Origin, write_origin
from nodule_det.plots.findings import save_findings
from nodule_det.plots.froc_curve import save_curve
from nodule_det.runs import RunFolder
from nodule_det.tables import ANNOTATION_COLUMNS, PATIENT, SERIES, write_table
from nodule_det.train.validate import Validation


def publish(folder: RunFolder, validation: Validation, origin: Origin) -> None:
    """Write the best validation so far.  ``evaluate`` reproduces ``froc.json`` from these files."""
    uids = [scan.series_uid for scan in validation.scans]
    write_origin(folder.candidates, origin)
    write_candidates(folder.candidates, zip(uids, validation.candidates, strict=True))
    patients = [scan.patient_key for scan in validation.scans]
    write_table(folder.scans, (SERIES, PATIENT), zip(uids, patients, strict=True))
    _write_findings(folder.annotations, validation.scans, excluded=False)
    _write_findings(folder.excluded, validation.scans, excluded=True)
    write_json(folder.froc, validation.froc.as_dict())
    save_curve(validation.froc, folder.curve_figure)
    save_findings(
        validation.scans, validation.candidates, validation.matched, folder.findings_figure
    )


def _write_findings(path: Path, scans: Sequence[StoredScan], *, excluded: bool) -> None:
    names = sorted(
        {k for s in scans for f in s.findings if f.excluded is excluded for k in f.attributes}
    )
    rows = [
        (scan.series_uid, *f.center_mm, f.diameter_mm, *(f.attributes.get(n, "") for n in names))
        for scan in scans
        for f in scan.findings
        if f.excluded is excluded
    ]
    write_table(path, (*ANNOTATION_COLUMNS, *names), rows)
