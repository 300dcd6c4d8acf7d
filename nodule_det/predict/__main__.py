"""``python -m nodule_det.predict``: candidates of scans that nobody has annotated.

    scan ──prepare──▶ lungs, resampled ──network──▶ probability ──peaks──▶ candidates.csv
                                                                    └────▶ UID.mrk.json

A scan is prepared by the code that ingest uses, with the spacing and margin that the checkpoint
was trained on, and searched by the code that validation uses.  What is found in a scan is kept at
once (``predictions.py``), so the same command goes on after any interruption.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command, print_error
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import Precision
from nodule_det.errors import NoduleDetError, ScanError

if TYPE_CHECKING:  # torch and MONAI take seconds: they wait until the settings are read
    from nodule_det.candidates import ScanCandidates, ScoreColumns
    from nodule_det.data.scan import ScanEntry
    from nodule_det.ensemble.calibration import Calibration
    from nodule_det.ensemble.folder import Model
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
    model = network(config)
    predict, made_by = predictor(config, model.members)
    out = Predictions(Path(config.out), config.markups_max, score_columns(model.calibration))
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
    from nodule_det.data.readers.read import find_scans

    masks = Path(config.masks) if config.masks else None
    scans = find_scans(Path(config.input), exclude=masks)
    return scans if masks is None else with_masks(scans, masks)


def network(config: PredictConfig) -> Model:
    """Return the model folder that is named, or the named checkpoints as one without figures.

    Raises:
        CheckpointError: If the folder is not a model, or a member is missing or damaged.
    """
    from nodule_det.ensemble.folder import Model, read_model

    if config.model:
        return read_model(Path(config.model))
    return Model(path=Path(), members=tuple(map(Path, config.checkpoints)))


def score_columns(calibration: Calibration | None) -> ScoreColumns:
    """Return the columns that say what a score means, where that is known."""
    if calibration is None:
        return {}
    return {
        "calibrated_probability": calibration.probability,
        "fp_per_scan": calibration.false_positives,
    }


def predictor(config: PredictConfig, members: Sequence[Path]) -> tuple[Predict, MadeBy]:
    """Load the networks, and say how much work a scan is where it is more than one pass.

    Returns:
        A function from a scan on disk to its candidates, and what these depend on.

    Raises:
        CheckpointError: If a checkpoint is missing, damaged, or of another architecture or store
            setting.
        ConfigError: If the device does not exist.
    """
    from nodule_det.candidates import find_candidates
    from nodule_det.config.data import StoreConfig
    from nodule_det.data.blocks import grown, mostly
    from nodule_det.data.ingest.prepared import try_prepared
    from nodule_det.data.ingest.workers import Apart, Died, why_died
    from nodule_det.ensemble.members import load_ensemble
    from nodule_det.model import choose_device, choose_precision

    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    ensemble = load_ensemble(members, device, dtype, config.views)
    meta = ensemble.meta
    settings = StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)
    if ensemble.n_passes > 1:
        print(
            f"{len(members)} networks x {config.views} views: {ensemble.n_passes} passes per scan, "
            f"{ensemble.n_passes} times the time of one network",
            flush=True,
        )

    # A reader that crashes takes its own process with it, and one scan.
    apart = Apart(partial(try_prepared, config=settings))

    def predict(entry: ScanEntry) -> ScanCandidates:
        prepared = apart(entry)
        if isinstance(prepared, Died):
            raise ScanError(f"{entry.path}: {why_died(prepared)}")
        if isinstance(prepared, Exception):
            raise prepared
        for note in prepared.notes:
            print(f"warning: {entry.series_uid}: {note}", file=sys.stderr, flush=True)
        region = ensemble.probability(prepared.volume_hu)
        search = grown(mostly(prepared.lung), prepared.grid.size_vox)
        return find_candidates(region.probability, prepared.grid, config.candidates, search)

    made_by: MadeBy = {
        "checkpoint": "+".join(map(_digest, members)),
        "precision": PRECISIONS[str(dtype)].value,
        "markups_max": config.markups_max,
        "masks": config.masks is not None,
    } | {f"candidates.{name}": value for name, value in asdict(config.candidates).items()}
    if config.views > 1:
        made_by["views"] = config.views
    return predict, made_by


def _digest(checkpoint: Path) -> str:
    with open(checkpoint, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def in_one_line(series_uid: str, found: ScanCandidates, took: str) -> str:
    """Say what was found in a scan."""
    best = f", best {found.score[0]:.3f}" if len(found) else ""
    dropped = ""
    if found.n_dropped:
        dropped = f" ({found.n_dropped} more left out by candidates.max_per_scan)"
    return f"{series_uid}  {len(found)} candidates{best}{dropped}  {took}"


if __name__ == "__main__":
    main()
