"""An ensemble over the scans of a store, each of them once, however often it is interrupted.

    scans ──Ensemble──▶ candidates, kept scan by scan ──▶ Validation ──publish()──▶ figures

The folder looks like that of a training run, so evaluate, report and the driver of tuning read it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from nodule_det import analysis
from nodule_det.candidates import ScanCandidates
from nodule_det.config.score import ScoreConfig
from nodule_det.data.store import Store, StoredScan, open_store
from nodule_det.ensemble.folder import members_digest, named_model
from nodule_det.ensemble.members import Ensemble, load_ensemble
from nodule_det.errors import CheckpointError, ConfigError, ExitCode
from nodule_det.files import write_json
from nodule_det.model import choose_device, choose_precision
from nodule_det.origin import Origin
from nodule_det.predict.folder import Predictions
from nodule_det.progress import Progress, counted, of_total
from nodule_det.runs import RunFolder, RunResult, RunStatus
from nodule_det.train.interrupt import Stop
from nodule_det.train.publish import publish
from nodule_det.train.validate import Validation, match

MARKUPS_MAX = 20


def score(config: ScoreConfig) -> int:
    """Score a model, and print its figures in one line.

    Returns:
        Exit code: ``ExitCode.COMPLETE`` or ``ExitCode.STOPPED``.

    Raises:
        ConfigError: If the store has no test set, or ``run_dir`` holds something else.
        CheckpointError: If a member is missing or damaged, was trained on other voxels, or has
            seen a scan or a patient of the test set.
        StoreError: If the store cannot be read, or lacks the fold.
    """
    begun_s = time.monotonic()
    stop = Stop(config.limits.wall_s, begun_s)
    store = open_store(config.store)
    scans = scored_scans(store, config)
    members = named_model(config.model, config.checkpoints).members
    device = choose_device(config.device)
    dtype = choose_precision(config.precision, device)
    ensemble = load_ensemble(members, device, dtype, config.views, config.factory)
    patients = {scan.series_uid: scan.patient_key for scan in scans}
    refuse_unfit(ensemble, store, config, patients)
    made_by = {
        "members": members_digest(members),
        "precision": str(dtype),
        "views": config.views,
    } | {f"candidates.{name}": value for name, value in asdict(config.candidates).items()}
    folder = RunFolder(Path(config.run_dir))
    kept = Predictions(folder.path, MARKUPS_MAX)
    uids = list(patients)
    with stop.listening(), kept.claimed(made_by, uids):
        reason = _search(ensemble, scans, config, kept, stop)
        n_done = sum(kept.read(uid) is not None for uid in uids)
        if reason is not None:
            result = RunResult(
                status=RunStatus.STOPPED, reason=reason, step=n_done, n_scans_validated=n_done
            )
            write_json(folder.result, result.as_dict())
            print(
                f"stopped ({reason}) after {of_total(n_done, len(scans), 'scan')}; run it again to "
                "resume"
            )
            return ExitCode.STOPPED
        found = _figures(scans, [_kept(kept, uid) for uid in uids], config)
        origin = Origin(scans=ensemble.scans)
        publish(folder, found, origin)
        write_json(folder.result, _result(found, time.monotonic() - begun_s).as_dict())
    print(_in_one_line(found, origin.kind_on(uids, patients), folder))
    for line in origin.warnings(uids, patients):
        print(f"warning: {line}", file=sys.stderr)
    return ExitCode.COMPLETE


def scored_scans(store: Store, config: ScoreConfig) -> tuple[StoredScan, ...]:
    """Return the scans of the test set, or of the fold that is named.

    Raises:
        ConfigError: If the store has no test set.
        StoreError: If it lacks the fold.
    """
    if config.fold is not None:
        return store.validation(config.fold)
    if not store.test:
        raise ConfigError(
            f"store={config.store} has no test set; make a store with store.test_fraction=0.2, or "
            f"score one of its folds {list(store.folds)} with fold=K"
        )
    return store.test


def refuse_unfit(
    ensemble: Ensemble, store: Store, config: ScoreConfig, patients: Mapping[str, str]
) -> None:
    """Refuse networks of other voxels, and those that have seen scans or patients of the test set.

    Args:
        ensemble: The networks.
        store: Where the scans are.
        config: What is scored.
        patients: series UID -> key of the patient, of the scans to score.

    Raises:
        CheckpointError: If the model does not suit the store.
    """
    meta, name = ensemble.meta, config.model or ", ".join(config.checkpoints)
    margin_mm = float(store.settings["margin_mm"])
    if (meta.spacing_mm, meta.margin_mm) != (store.spacing_mm, margin_mm):
        raise CheckpointError(
            f"{name} was trained on voxels of {meta.spacing_mm:g} mm with a margin of "
            f"{meta.margin_mm:g} mm, store={config.store} has {store.spacing_mm:g} mm and "
            f"{margin_mm:g} mm; use a store with these settings"
        )
    seen = ensemble.scans
    n_scans = seen.n_trained(patients) + seen.n_selected(patients)
    n_patients = seen.n_of_trained_patients(patients, patients)
    n_patients += seen.n_of_selected_patients(patients, patients)
    if config.fold is None and (n_scans or n_patients):
        which = f"{n_scans} of" if n_scans else f"other scans of the patients of {n_patients} of"
        raise CheckpointError(
            f"{name} was trained or selected on {which} {counted(len(patients), 'scan')} in the "
            f"test set of store={config.store}, so it cannot be tested on them; use a model that "
            "was trained on this store"
        )


def _search(
    ensemble: Ensemble,
    scans: Sequence[StoredScan],
    config: ScoreConfig,
    kept: Predictions,
    stop: Stop,
) -> str | None:
    """Search the scans that are not done yet; returns why it stopped, None at the end."""
    longest_s = 0.0
    todo = [scan for scan in scans if kept.read(scan.series_uid, _stamp(scan)) is None]
    with Progress("score", len(scans)) as progress:
        progress.start_at(len(scans) - len(todo))
        for scan in todo:
            if reason := stop.reason(1.5 * longest_s):
                return reason
            begun_s = time.monotonic()
            found = ensemble.candidates(
                scan.volume(), scan.grid, config.candidates, scan.search_mask()
            )
            kept.write(scan.series_uid, _stamp(scan), found)
            longest_s = max(longest_s, time.monotonic() - begun_s)
            progress.advance()
    return None


def _kept(kept: Predictions, series_uid: str) -> ScanCandidates:
    found = kept.read(series_uid)
    if found is None:
        raise ConfigError(f"the record of {series_uid} in {kept.path} vanished; run it again")
    return found


def _figures(
    scans: Sequence[StoredScan], candidates: Sequence[ScanCandidates], config: ScoreConfig
) -> Validation:
    matched = match(scans, candidates)
    froc = analysis.analyse(
        matched,
        bootstrap=config.bootstrap,
        seed=config.seed,
        patients={scan.series_uid: scan.patient_key for scan in scans},
    )
    return Validation(tuple(scans), tuple(candidates), matched, froc)


def _result(found: Validation, seconds: float) -> RunResult:
    return RunResult(
        status=RunStatus.COMPLETE,
        pauc=found.froc.pauc,
        pauc_se=found.froc.pauc_se,
        pauc_interval=found.froc.pauc_interval,
        cpm=found.froc.cpm,
        step=len(found.scans),
        seconds=round(seconds, 3),
        n_validation_scans=found.froc.n_scans,
        n_validation_lesions=found.froc.n_lesions,
        n_candidates_dropped=found.n_dropped,
    )


def _in_one_line(found: Validation, kind: str, folder: RunFolder) -> str:
    froc = found.froc
    figures = f"no figures: {froc.reason}"
    if froc.pauc is not None and froc.pauc_interval is not None:
        low, high = froc.pauc_interval
        ci = "too few scans for a CI" if froc.few_scans else f"95% CI {low:.3f} to {high:.3f}"
        figures = f"pAUC {froc.pauc:.3f} ({ci}), CPM {froc.cpm:.3f}"
    return (
        f"{figures}, {counted(froc.n_lesions, 'lesion')} in "
        f"{counted(froc.n_scans, 'scan')}{f'; {kind}' if kind else ''}; folder {folder.path}"
    )


def _stamp(scan: StoredScan) -> str:
    return scan.checksums.get(scan.volume_file.name, "")
