"""The source files of a scan, and a stamp that detects changes without reading them.

ScanEntry ──source_stamp()──▶ keep the stored scan, or ingest it again
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from nodule_det.data.readers.metaimage import voxel_file
from nodule_det.data.scan import ScanEntry


def source_files(path: Path) -> list[Path]:
    """List the files of an image: all files of a DICOM folder, or the image and its voxel file.

    Raises:
        ScanError: If a MetaImage's header does not say where its voxels are.
    """
    if path.is_dir():
        return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    if path.suffix.lower() == ".mhd":
        return [path, voxel_file(path)]
    return [path]


def source_stamp(entry: ScanEntry) -> str:
    """Return a stamp of everything a stored scan is made from: files, masks, findings, patient.

    Files are identified by name, size and modification time, so moving a whole data set does not
    change its stamps.
    """
    masks = (entry.lung_mask, entry.lesion_mask, *entry.lesion_objects)
    images = (entry.path, *entry.folders, *masks)
    paths = [p for p in images if p is not None]
    files = [(f.name, f.stat()) for path in paths for f in source_files(path)]
    known = {
        "files": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files],
        "masks": [entry.lung_mask is not None, entry.lesion_mask is not None],
        "findings": [asdict(f) for f in entry.findings],
        "patient": entry.patient_key,
    }
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
