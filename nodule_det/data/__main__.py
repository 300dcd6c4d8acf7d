"""``python -m nodule_det.data``: scans of any layout -> the resampled store."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from nodule_det.cli import command, print_error
from nodule_det.config.data import DataConfig, Layout
from nodule_det.progress import counted


@command("data", DataConfig)
def main(config: DataConfig) -> int:
    """Ingest a data set; the heavy imports wait until the settings are known to be right."""
    from nodule_det.data.ingest.ingest import ingest
    from nodule_det.data.ingest.keys import left_out
    from nodule_det.data.ingest.patients import with_patients
    from nodule_det.data.ingest.privacy import privacy_notes
    from nodule_det.data.layouts.detect import list_scans
    from nodule_det.data.layouts.msd import test_set_note

    if config.source == "phantom":
        config = _make_phantom(config)
    entries = list_scans(config)
    if config.patients:
        entries = with_patients(entries, Path(config.patients))
    notes = privacy_notes(entries, anonymise=config.anonymise, patients=config.patients is not None)
    if dropped := left_out(entries, config.columns):
        notes.append(
            f"{counted(len(dropped), 'column')} of the annotations not stored; to keep those "
            "without names or free text, list them in columns="
        )
    if test_set := test_set_note(Path(config.source)):
        notes.append(test_set)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    outcome = ingest(entries, config)
    for uid, corrected in sorted(outcome.notes.items()):
        for note in corrected:
            print(f"warning: scan {uid}: {note}", file=sys.stderr)
    for uid, reason in sorted(outcome.failures.items()):
        print_error(f"scan {uid} is left out: {reason}")
    print(
        f"{outcome.store}: {counted(outcome.n_scans, 'scan')} with "
        f"{counted(outcome.n_lesions, 'lesion')}"
        + _if_any(outcome.n_lesions_outside_lungs, "lesion", "outside the lungs (summary.json)")
        + _if_any(len(outcome.failures), "scan", "failed")
        + f"; picture: {outcome.store / 'summary.png'}"
    )
    return 1 if outcome.failures else 0


def _if_any(n: int, what: str, how: str) -> str:
    return f", {counted(n, what)} {how}" if n else ""


def _make_phantom(config: DataConfig) -> DataConfig:
    """Make the phantom scans beside the store, as files like any others."""
    from nodule_det.data.phantom.write import write_dataset

    source = Path(f"{config.out.rstrip('/')}-source")
    write_dataset(source, config.phantom, config.workers)
    return replace(config, source=str(source), layout=Layout.luna16)


if __name__ == "__main__":
    main()
