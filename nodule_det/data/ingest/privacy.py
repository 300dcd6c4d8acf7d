"""Privacy notes printed before an ingest: names, identities, unknown patients.

entries ──privacy_notes()──▶ lines to print once
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from nodule_det.data.readers.dicom_header import (
    BURNED_IN,
    IDENTITY_REMOVED,
    patient_key,
    read_header,
)
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import NoduleDetError
from nodule_det.progress import of_total

NAME = re.compile(r"[A-ZÄÖÜ][a-zäöüß'-]{2,}[\s_,.^-]+[A-ZÄÖÜ][a-zäöüß'-]{2,}|\^")
"""Two capitalised words, or DICOM's name separator."""
DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")


def privacy_notes(entries: Sequence[ScanEntry], *, anonymise: bool, patients: bool) -> list[str]:
    """Return what a user should know about a data set before it is ingested.

    Args:
        entries: All scans, under their own names.
        anonymise: Whether scans get random keys.
        patients: Whether a table assigns scans to patients.
    """
    series = [e for e in entries if e.path.is_dir()]
    tags = [values for e in series if (values := _tags(e.path)) is not None]
    notes = []
    kept = sum(removed != "YES" for removed, _ in tags)
    named = sum(bool(NAME.search(e.series_uid) or DATE.search(e.series_uid)) for e in entries)
    if kept and not anonymise:
        notes.append(
            f"{of_total(kept, len(entries), 'scan', 'is', 'are')} not marked as de-identified "
            "(PatientIdentityRemoved is not YES): their series UIDs become file names of the "
            "store; anonymise=true replaces them"
        )
    if named and not anonymise:
        notes.append(
            f"{of_total(named, len(entries), 'scan', 'has', 'have')} a name that looks like a "
            "person's or holds a date; it becomes a file name of the store; anonymise=true "
            "replaces it"
        )
    if burned := sum(burned_in == "YES" for _, burned_in in tags):
        notes.append(
            f"{of_total(burned, len(entries), 'scan', 'has', 'have')} text burned into the pixels "
            "(BurnedInAnnotation=YES), which may name the patient; it stays in the voxels"
        )
    if not patients:
        notes += _unknown_patients(series)
        notes += _files_without_patients(entries)
    return notes


def _files_without_patients(entries: Sequence[ScanEntry]) -> list[str]:
    files = [e for e in entries if not e.path.is_dir() and e.fold is None]
    if len(files) < 2:
        return []
    return [
        f"{of_total(len(files), len(entries), 'scan', 'is', 'are')} in a format without patient "
        "numbers: each counts as a patient of its own; if some are of one patient, "
        "patients=FILE.csv keeps them in one fold"
    ]


def _unknown_patients(series: Sequence[ScanEntry]) -> list[str]:
    if len(series) < 2:
        return []
    unnamed = sum(e.patient_key == patient_key(e.series_uid) for e in series)
    if unnamed:
        return [
            f"{of_total(unnamed, len(series), 'DICOM scan', 'has', 'have')} no PatientID: each "
            "counts as a patient of its own, so scans of one patient may get into different folds; "
            "patients=FILE.csv assigns scans to patients"
        ]
    if len({e.patient_key for e in series}) == 1:
        return [
            f"all {len(series)} DICOM scans have the same PatientID and go into one fold, which "
            "leaves nothing to train on; patients=FILE.csv assigns scans to patients"
        ]
    return []


def _tags(folder: Path) -> tuple[str, str] | None:
    """Read two tags from one DICOM file in a folder; None if none can be read."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            try:
                header = read_header(file)
            except (NoduleDetError, OSError):
                continue
            return header.text(IDENTITY_REMOVED).strip(), header.text(BURNED_IN).strip()
    return None


def scrubber(source: Path, entry: ScanEntry) -> Callable[[str], str]:
    """Return a function that removes the folder of the data set from a message."""
    here = entry.path if entry.path.is_dir() else entry.path.parent
    roots = sorted({str(source), str(source.resolve()), str(here)}, key=len)
    return lambda text: _without(text, roots[::-1])


def _without(text: str, roots: Sequence[str]) -> str:
    for root in roots:
        if root not in ("", ".", "/"):
            text = text.replace(f"{root}/", "").replace(root, "source")
    return text
