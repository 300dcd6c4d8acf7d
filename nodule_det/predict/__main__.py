"""``python -m nodule_det.predict``: candidates of scans without annotations.

    scan ──prepare──▶ lungs, resampled ──network──▶ probability ──peaks──▶ candidates.csv
                                                                    └────▶ UID.mrk.json

A scan is prepared by the code that ingest uses, with the spacing and margin that the checkpoint
was trained on, and searched by the code that validation uses.  The candidates of each scan are
written at once (``folder.py``), so the same command resumes after any interruption.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nodule_det.cli import command, print_error
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import CandidateConfig, Precision
from nodule_det.errors import ConfigError, GeometryError, NoduleDetError, ScanError
from nodule_det.progress import counted, of_total

if TYPE_CHECKING:  # torch and MONAI take seconds: they wait until the settings are read
    from nodule_det.candidates import ScanCandidates, ScoreColumns
    from nodule_det.data.ingest.keys import Keys
    from nodule_det.data.scan import ScanEntry
    from nodule_det.ensemble.calibration import Calibration
    from nodule_det.origin import ScanRecord
    from nodule_det.predict.folder import MadeBy, Predictions

Predict = Callable[["ScanEntry"], "ScanCandidates"]

PRECISIONS = {
    "torch.float32": Precision.fp32,
    "torch.bfloat16": Precision.bf16,
    "torch.float16": Precision.fp16,
}
"""The precision that ``auto`` chose: all candidates of a folder are computed with the same one."""


@command("predict", PredictConfig)
def main(config: PredictConfig) -> int:
    """Write the candidates of all scans; prints at the end which failed, and exits with 1 then."""
    from nodule_det.ensemble.folder import named_model
    from nodule_det.origin import Origin, write_origin
    from nodule_det.predict.folder import Predictions

    scans = list_input(config)
    extras = dicom_endings(config)
    if extras:
        from nodule_det.predict.dicom import refuse_other_formats

        refuse_other_formats(scans, "sr=true" if config.sr else "seg=true")
    keys = open_keys(config)
    uids = [keys.scan(scan.series_uid) for scan in scans]
    model = named_model(config.model, config.checkpoints)
    config = replace(config, candidates=needed_candidates(config, model.calibration))
    predict, made_by, seen = predictor(config, model.members, keys)
    out = Predictions(Path(config.out), config.markups_max, score_columns(model.calibration))
    with out.claimed(made_by, uids):
        list_names(config, scans, keys, {})
        try:
            failures = predict_all(scans, predict, out, keys, extras)
        except KeyboardInterrupt:
            print(f"completed scans are in {out.path}; the same command resumes", flush=True)
            raise
        out.join(uids)
        list_names(config, scans, keys, failures)
        if seen.known:
            write_origin(out.candidates, Origin(scans=seen))
    print(f"{of_total(len(scans) - len(failures), len(scans), 'scan')}  {out.candidates}")
    names = [seen.name_of(scan.series_uid, uid) for scan, uid in zip(scans, uids, strict=True)]
    patients = patients_of(config, scans, names, keys)
    if kind := Origin(scans=seen).kind_on(names, patients):
        print(f"for this network these scans are: {kind}")
    for line in Origin(scans=seen).warnings(names, patients):
        print(f"warning: {line}", file=sys.stderr)
    for uid, reason in failures.items():
        if config.anonymise:
            reason = f"see {names_of(config).name} beside the folder"
        print_error(f"{uid}: {reason}")
    return 1 if failures else 0


def dicom_endings(config: PredictConfig) -> list[str]:
    """Return the endings of the DICOM objects that are requested."""
    from nodule_det.predict.folder import DICOM_ENDINGS

    wanted = zip(DICOM_ENDINGS, (config.sr, config.seg), strict=True)
    return [ending for ending, is_wanted in wanted if is_wanted]


def names_of(config: PredictConfig) -> Path:
    """Return the private table of anonymised predictions."""
    from nodule_det.data.ingest.keys import names_file

    return names_file(config.out)


def patients_of(
    config: PredictConfig, scans: Sequence[ScanEntry], names: Sequence[str], keys: Keys
) -> dict[str, str]:
    """Return the patient's key of each name, as a store with the same secret has it."""
    if not config.anonymise:
        return {}  # without a secret there are no keys
    return {name: keys.patient(scan.patient_key) for name, scan in zip(names, scans, strict=True)}


def list_names(
    config: PredictConfig, scans: Sequence[ScanEntry], keys: Keys, failures: dict[str, str]
) -> None:
    """Write the private table of anonymised predictions; does nothing for others.

    Raises:
        ConfigError: If it cannot be written.
    """
    from nodule_det.data.ingest.keys import write_names

    if not config.anonymise:
        return
    path = names_of(config)
    try:
        write_names(path, scans, keys, failures)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); use an out= beside which you "
            "may write"
        ) from error


def open_keys(config: PredictConfig) -> Keys:
    """Return the keys of the scans: their own UIDs and names, or random UIDs if anonymised.

    Raises:
        StoreError: If the secret is damaged, readable by all users, or cannot be written.
        ConfigError: If the secret of an existing folder is missing.
    """
    from nodule_det.data.ingest.keys import Keys, open_secret, read_secret, secret_file
    from nodule_det.predict.folder import MADE_BY

    if not config.anonymise:
        return Keys(b"", anonymise=False)
    path = secret_file(config.out, config.secret)
    if read_secret(path) is None and Path(config.out, MADE_BY).exists():
        raise ConfigError(
            f"out={config.out} exists but its secret is not at {path}; restore that file, set "
            "secret= to it, or use another out="
        )
    return Keys(open_secret(path, f"out={config.out}"), anonymise=True)


def predict_all(
    scans: Sequence[ScanEntry],
    predict: Predict,
    out: Predictions,
    keys: Keys,
    extras: Sequence[str] = (),
) -> dict[str, str]:
    """Find and write the candidates of each scan, and DICOM objects of these endings.

    Returns:
        Key -> reason, for each scan that failed.

    Raises:
        ConfigError: If the folder cannot be written, which would fail all further scans as well.
    """
    failures: dict[str, str] = {}
    for scan in scans:
        started_s = time.monotonic()
        uid = keys.scan(scan.series_uid)
        result = _attempt(scan, predict, out, keys)
        if isinstance(result, str):
            out.drop(uid)
            failures[uid] = result
            continue
        stamp, found, stood = result
        if not stood:
            out.drop(uid)  # DICOM objects of other candidates
            out.write(uid, stamp, found)
        if reason := _write_dicom(scan, stamp, found, out, extras):
            failures[uid] = reason
        took = "already done" if stood else f"{time.monotonic() - started_s:.1f} s"
        print(in_one_line(uid, found, took), flush=True)
    return failures


def _write_dicom(
    scan: ScanEntry, stamp: str, found: ScanCandidates, out: Predictions, extras: Sequence[str]
) -> str | None:
    """Write the DICOM objects of a scan that are missing; returns why one could not be written."""
    from nodule_det.predict.dicom import write_objects

    files = {ending: out.dicom(scan.series_uid, ending) for ending in extras}
    missing = {ending: path for ending, path in files.items() if not path.exists()}
    if not missing:
        return None
    try:
        with out.writing():
            write_objects(scan, stamp, found, missing, out.most)
    except (ScanError, GeometryError) as error:
        return f"its candidates were written, but {error}"
    return None


def _attempt(
    scan: ScanEntry, predict: Predict, out: Predictions, keys: Keys
) -> tuple[str, ScanCandidates, bool] | str:
    """Return the stamp and candidates of a scan and whether they existed, or why it failed."""
    from nodule_det.data.ingest.source import source_stamp

    try:
        stamp = source_stamp(scan)  # before reading: a file that changes meanwhile is read again
        if keys.anonymise:
            stamp = keys.stamp(stamp)
        found = out.read(keys.scan(scan.series_uid), stamp)
        return (stamp, predict(scan), False) if found is None else (stamp, found, True)
    except NoduleDetError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or scan.path} cannot be read ({error.strerror or error})"
    except MemoryError as error:
        return (
            f"{scan.path} needs more memory than is available ({error}); request more for the "
            "job, or resample the scan to larger voxels first"
        )


def list_input(config: PredictConfig) -> list[ScanEntry]:
    """List the scans of ``input``, with their lung masks if ``masks`` is set.

    Raises:
        ScanError: If there is no scan, or two have the same key.
        LayoutError: If a scan has no mask in ``masks``.
    """
    from nodule_det.data.layouts.detect import with_masks
    from nodule_det.data.readers.read import find_scans

    masks = Path(config.masks) if config.masks else None
    scans = find_scans(Path(config.input), exclude=masks)
    return scans if masks is None else with_masks(scans, masks)


def needed_candidates(config: PredictConfig, calibration: Calibration | None) -> CandidateConfig:
    """Return the settings of candidates, without those of ``max_fp_per_scan`` and beyond."""
    if calibration is None or not config.max_fp_per_scan:
        return config.candidates
    lowest = calibration.lowest_score(config.max_fp_per_scan)
    return replace(config.candidates, threshold=max(config.candidates.threshold, lowest))


def score_columns(calibration: Calibration | None) -> ScoreColumns:
    """Return the columns of a calibrated score; none without a calibration."""
    if calibration is None:
        return {}
    return {
        "calibrated_probability": calibration.probability,
        "fp_per_scan": calibration.false_positives,
    }


def predictor(
    config: PredictConfig, members: Sequence[Path], keys: Keys
) -> tuple[Predict, MadeBy, ScanRecord]:
    """Load the networks, and print the work per scan if that is more than one pass.

    Returns:
        A function from a scan on disk to its candidates, what these depend on, and the scans that
        the networks have seen.

    Raises:
        CheckpointError: If a checkpoint is missing, damaged, or of another architecture or store
            setting.
        ConfigError: If the device does not exist.
    """
    from nodule_det.config.data import StoreConfig
    from nodule_det.data.blocks import grown, mostly
    from nodule_det.data.ingest.prepared import try_prepared
    from nodule_det.data.ingest.workers import Apart, Crew, Died, why_died
    from nodule_det.ensemble.folder import members_digest
    from nodule_det.ensemble.members import load_ensemble
    from nodule_det.model import choose_device, choose_precision
    from nodule_det.progress import counted

    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    ensemble = load_ensemble(members, device, dtype, config.views, config.factory)
    meta = ensemble.meta
    settings = StoreConfig(spacing_mm=meta.spacing_mm, margin_mm=meta.margin_mm)
    if ensemble.n_passes > 1:
        print(
            f"{counted(len(members), 'network')} x {counted(config.views, 'view')}: "
            f"{ensemble.n_passes} passes per scan, "
            f"{ensemble.n_passes} times the time of one network",
            flush=True,
        )

    # A reader that crashes or hangs loses its own process, and one scan.
    crew = Crew(timeout_s=config.scan_timeout_s, silent=config.anonymise)
    apart = Apart(partial(try_prepared, config=settings), crew)

    def predict(entry: ScanEntry) -> ScanCandidates:
        prepared = apart(entry)
        if isinstance(prepared, Died):
            raise ScanError(f"{entry.path}: {why_died(prepared)}")
        if isinstance(prepared, Exception):
            raise prepared
        for note in prepared.notes:
            print(f"warning: {keys.scan(entry.series_uid)}: {note}", file=sys.stderr, flush=True)
        search = grown(mostly(prepared.lung), prepared.grid.size_vox)
        return ensemble.candidates(prepared.volume_hu, prepared.grid, config.candidates, search)

    made_by: MadeBy = {
        "checkpoint": members_digest(members),
        "precision": PRECISIONS[str(dtype)].value,
        "markups_max": config.markups_max,
        "masks": config.masks is not None,
    } | {f"candidates.{name}": value for name, value in asdict(config.candidates).items()}
    if config.views > 1:
        made_by["views"] = config.views
    if config.anonymise:
        made_by |= {"anonymise": True, "secret_id": keys.secret_id}
    return predict, made_by, ensemble.scans


def in_one_line(series_uid: str, found: ScanCandidates, took: str) -> str:
    """Describe the candidates of a scan in one line."""
    best = f", best {found.score[0]:.3f}" if len(found) else ""
    dropped = ""
    if found.n_dropped:
        dropped = (
            f" ({counted(found.n_dropped, 'lower peak')} not examined: candidates.max_per_scan)"
        )
    return f"{series_uid}  {counted(len(found), 'candidate')}{best}{dropped}  {took}"


if __name__ == "__main__":
    main()
