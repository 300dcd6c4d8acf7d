"""From an entry to a prepared scan, as ingest and predict do in a separate process.

ScanEntry ──read_entry(), read_mask()──▶ Scan, masks ──prepare()──▶ Prepared
"""

from __future__ import annotations

from nodule_det.config.data import StoreConfig
from nodule_det.data.layouts.detect import check_findings
from nodule_det.data.preprocess.prepare import prepare
from nodule_det.data.readers.lesions import read_lesions
from nodule_det.data.readers.read import read_entry, read_mask
from nodule_det.data.scan import Prepared, ScanEntry
from nodule_det.errors import NoduleDetError


def read_prepared(entry: ScanEntry, config: StoreConfig) -> Prepared:
    """Read a scan with its masks, and prepare it.

    Raises:
        NoduleDetError: If the scan or a mask cannot be used.
        OSError: If a file cannot be read.
        MemoryError: If there is not enough memory.
    """
    scan = read_entry(entry)
    check_findings(entry, scan.grid)
    lung = read_mask(entry.lung_mask, scan.grid) if entry.lung_mask else None
    labels = read_lesions(entry)
    return prepare(scan, config, entry.findings, mask=lung, labels=labels)


def try_prepared(
    entry: ScanEntry, config: StoreConfig
) -> Prepared | NoduleDetError | OSError | MemoryError:
    """Return a prepared scan or the error, because another process can only return a value."""
    try:
        return read_prepared(entry, config)
    except (NoduleDetError, OSError, MemoryError) as error:
        return error
