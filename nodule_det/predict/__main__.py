"""``python -m nodule_det.predict``: candidates of scans that nobody has annotated.

    scan ──prepare──▶ lungs, resampled ──network──▶ probability ──peaks──▶ candidates.csv
                                                                    └────▶ UID.mrk.json

A scan is prepared by the code that ingest uses, with the spacing and margin that the checkpoint
was trained on, and searched by the code that validation uses.  What is found in a scan is kept at
once (``predictions.py``), so the same command goes on after any interruption.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command, print_error
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import Precision
from nodule_det.errors import NoduleDetError

if TYPE_CHECKING:  # torch and MONAI take seconds: they wait until the settings are read
    from nodule_det.candidates import ScanCandidates
    from nodule_det.data.scan import ScanEntry
    from nodule_det.predict.folder import MadeBy, Predictions

Predict = Callable[["ScanEntry"], "ScanCandidates"]

PRECISIONS = {
    "torch.float32": Precision.fp32,
    "torch.bfloat16": Precision.bf16,
    "torch.float16": Precision.fp16,
}
"""What ``auto`` came to: candidates of one folder are computed in the same bits."""


@command("predict", PredictConfig)
def main(config: PredictConfig) -> int:
    """Write the candidates of all scans; says at the end which failed, and leaves with 1 then."""
    from nodule_det.predict.folder import Predictions

    scans = list_input(config)
    uids = [scan.series_uid for scan in scans]
    predict, made_by = predictor(config)
    out = Predictions(Path(config.out), config.markups_max)
    with out.claimed(made_by, uids):
        try:
            failures = predict_all(scans, predict, out)
        except KeyboardInterrupt:
            print(f"what is done stands in {out.path}; the same command goes on", flush=True)
            raise
        out.join(uids)
    print(f"{len(scans) - len(failures)} of {len(scans)} scans  {out.candidates}")
    for failure in failures:
        print_error(failure)
    return 1 if failures else 0


def predict_all(scans: Sequence[ScanEntry], predict: Predict, out: Predictions) -> list[str]:
    """Find and keep the candidates of each scan; gives a line for each that failed.

    Raises:
        ConfigError: If the folder cannot be written: every further scan would be for nothing.
    """
    failures: list[str] = []
    for scan in scans:
        started_s = time.monotonic()
        result = _attempt(scan, predict, out)
        if isinstance(result, str):
            out.drop(scan.series_uid)
            failures.append(f"{scan.series_uid}: {result}")
            continue
        stamp, found, stood = result
        if not stood:
            out.write(scan.series_uid, stamp, found)
        took = "stood already" if stood else f"{time.monotonic() - started_s:.1f} s"
        print(in_one_line(scan.series_uid, found, took), flush=True)
    return failures


def _attempt(
    scan: ScanEntry, predict: Predict, out: Predictions
) -> tuple[str, ScanCandidates, bool] | str:
    """Return the stamp and the candidates of a scan and whether they stood already, or the reason
    why there are none."""
    from nodule_det.data.ingest.source import source_stamp

    try:
        stamp = source_stamp(scan)  # before reading: a file that changes meanwhile is read again
        found = out.read(scan.series_uid, stamp)
        return (stamp, predict(scan), False) if found is None else (stamp, found, True)
    except NoduleDetError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or scan.path} cannot be read ({error.strerror or error})"
    except MemoryError as error:
        return (
            f"{scan.path} needs more memory than there is ({error}); give the job more, or "
            "bring the scan to larger voxels first"
        )


def list_input(config: PredictConfig) -> list[ScanEntry]:
    """List the scans of ``input``, each with its lung mask where ``masks`` has them.

    Raises:
        ScanError: If there is no scan, or two have the same key.
        LayoutError: If a scan has no mask in ``masks``.
    """
    from nodule_det.data.layouts.detect import with_masks
    from nodule_det.data.readers.read import scan_paths
    from nodule_det.data.scan import ScanEntry

    masks = Path(config.masks) if config.masks else None
    scans = [ScanEntry(*scan) for scan in scan_paths(Path(config.input), exclude=masks)]
    return scans if masks is None else with_masks(scans, masks)


def predictor(config: PredictConfig) -> tuple[Predict, MadeBy]:
    """Load the checkpoint.

    Returns:
        A function from a scan on disk to its candidates, and what these depend on.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged or of another architecture.
        ConfigError: If the device is not there.
    """
    from nodule_det.candidates import find_candidates
    from nodule_det.checkpoint import load_model
    from nodule_det.config.data import StoreConfig
    from nodule_det.data.blocks import grown, mostly
    from nodule_det.data.preprocess.prepare import prepare
    from nodule_det.data.readers.read import read_mask, read_scan
    from nodule_det.inference import predict_volume
    from nodule_det.model import choose_device, choose_precision, fuse

    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    model, meta = load_model(Path(config.checkpoint))
    model = fuse(model).to(device)
    settings = StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)

    def predict(entry: ScanEntry) -> ScanCandidates:
        scan = read_scan(entry.path, entry.series_uid)
        mask = read_mask(entry.lung_mask, scan.grid) if entry.lung_mask else None
        prepared = prepare(scan, settings, mask=mask)
        region = predict_volume(model, meta.model, prepared.volume_hu, device=device, dtype=dtype)
        search = grown(mostly(prepared.lung), prepared.grid.size_vox)
        return find_candidates(region.probability, prepared.grid, config.candidates, search)

    with open(config.checkpoint, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made_by: MadeBy = {
        "checkpoint": f"sha256:{digest[:16]}",
        "precision": PRECISIONS[str(dtype)].value,
        "markups_max": config.markups_max,
        "masks": config.masks is not None,
    } | {f"candidates.{name}": value for name, value in asdict(config.candidates).items()}
    return predict, made_by


def in_one_line(series_uid: str, found: ScanCandidates, took: str) -> str:
    """Say what was found in a scan."""
    best = f", best {found.score[0]:.3f}" if len(found) else ""
    dropped = ""
    if found.n_dropped:
        dropped = f" ({found.n_dropped} more left out by candidates.max_per_scan)"
    return f"{series_uid}  {len(found)} candidates{best}{dropped}  {took}"


if __name__ == "__main__":
    main()
