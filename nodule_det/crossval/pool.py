"""The out-of-fold results of all trainings as one data set, in our format and in LUNA16's.

    {fold: RunFolder} ──pool()──▶ Pooled: candidates.csv, annotations*.csv, scans.csv, luna16/
                                     ├──report()──▶ froc.json, froc.png, folds.png, crossval.json
                                     └──hand_on()─▶ model/, reliability.png

Every scan is scored by a network that was not trained on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.analysis import Froc
from nodule_det.config.crossval import Selection
from nodule_det.config.evaluate import EvaluateConfig
from nodule_det.data.store import Store
from nodule_det.ensemble.calibration import fit_calibration, thresholds
from nodule_det.ensemble.folder import Model, write_model
from nodule_det.errors import CheckpointError, FrocInputError, TableError
from nodule_det.evaluate.reading import Job, read_job
from nodule_det.evaluate.sections import evaluate
from nodule_det.files import write_json, write_text
from nodule_det.froc import Matched, match
from nodule_det.origin import (
    CROSS_VALIDATED,
    UNKNOWN,
    Origin,
    ScanRecord,
    read_origin,
    union,
    write_origin,
)
from nodule_det.progress import counted
from nodule_det.runs import RunFolder
from nodule_det.tables import (
    ANNOTATION_COLUMNS,
    CANDIDATE_COLUMNS,
    DIAMETER,
    PATIENT,
    SERIES,
    Table,
    read_table,
    write_table,
)
from nodule_det.untrusted import read_object

FOLD = "fold"
MAX_FROC_BYTES = 64 * 2**20
OF_THE_SITE = ("store", "tracker_uri")
"""Settings of a training that say nothing about the model, only where it was trained."""
LABEL = {
    Selection.other: f"{CROSS_VALIDATED}: each fold evaluated once, its checkpoint chosen on "
    "another",
    Selection.same: f"{CROSS_VALIDATED}, optimistic: each fold also chose its own checkpoint",
}


@dataclass(frozen=True)
class Pooled:
    """The pooled tables of a cross-validation, and the figures of each fold."""

    folder: Path
    candidates: Path
    annotations: Path
    excluded: Path
    scans: Path
    selection: Selection
    folds: tuple[dict[str, Any], ...]
    """For each fold its number, run folder, counts, pAUC, 95% CI and CPM."""
    warnings: tuple[str, ...]
    """A line for each fold whose network has seen scans or patients of it."""


def require_results(runs: Mapping[int, RunFolder], selection: Selection, store: Store) -> None:
    """Refuse results that are not whole, or on other scans than the store has, which may change.

    Args:
        runs: The complete training that is evaluated on each fold.
        selection: Which scans chose the checkpoints.  ``same`` may have used a part of the fold.
        store: The store as it is now.

    Raises:
        TableError: If a table or ``froc.json`` is missing or damaged, or other scans are listed
            than the fold has.
    """
    for fold, run in runs.items():
        source = _evaluated(run, selection)
        path = source.scans
        try:
            read_figures(source.froc)
            found = set(read_table(path, (SERIES,)).text(SERIES))
            read_table(source.candidates, CANDIDATE_COLUMNS, allow_empty=True)
            for table in (source.annotations, source.excluded):
                read_table(table, ANNOTATION_COLUMNS, allow_empty=True)
        except (OSError, ValueError) as error:  # a TableError is a ValueError
            raise TableError(
                f"the results of fold {fold} are not whole: {error}.  {_again(run)}"
            ) from None
        there = {scan.series_uid for scan in store.validation(fold)}
        if found - there or (there - found and selection is Selection.other):
            raise TableError(
                f"{path} lists other scans than fold {fold} of store={store.path} has now "
                f"({len(found)} there, {len(there)} here, {len(found & there)} in both): the store "
                "was changed after this training; use another out folder, which trains again"
            )


def _again(run: RunFolder) -> str:
    return f"Delete the folder {run.path} to train this network again with the same command"


def _evaluated(run: RunFolder, selection: Selection) -> RunFolder:
    """Return the folder with the results on the fold that a run is evaluated on."""
    return run if selection is Selection.same else run.test


def pool(out: Path, runs: Mapping[int, RunFolder], selection: Selection) -> Pooled:
    """Write the tables of all folds as one, and in the format of LUNA16's script.

    Args:
        out: Folder of the cross-validation.
        runs: The complete training that is evaluated on each fold.
        selection: Which scans chose the checkpoints.  Decides where the results of a run are.

    Raises:
        TableError: If a table is missing or damaged, or a scan is in two folds.
    """
    sources = {fold: _evaluated(run, selection) for fold, run in runs.items()}
    scans = {fold: read_table(source.scans, (SERIES,)) for fold, source in sources.items()}
    pooled = Pooled(
        folder=out,
        candidates=out / "candidates.csv",
        annotations=out / "annotations.csv",
        excluded=out / "annotations_excluded.csv",
        scans=out / "scans.csv",
        selection=selection,
        folds=tuple(
            {FOLD: fold, "run": str(source.path), **read_figures(source.froc)}
            for fold, source in sources.items()
        ),
        warnings=tuple(
            f"fold {fold}: {line}"
            for fold, source in sources.items()
            for line in _seen_before(source, scans[fold])
        ),
    )
    _write_scans(pooled.scans, scans)
    write_origin(pooled.candidates, Origin(LABEL[selection]))
    tables = [source.candidates for source in sources.values()]
    _join(pooled.candidates, (*CANDIDATE_COLUMNS, DIAMETER), tables)
    _join(pooled.annotations, ANNOTATION_COLUMNS, [s.annotations for s in sources.values()])
    _join(pooled.excluded, ANNOTATION_COLUMNS, [s.excluded for s in sources.values()])
    _write_luna16(out / "luna16", pooled)
    return pooled


def read_figures(path: Path) -> dict[str, Any]:
    """Read the counts, pAUC, its 95% CI and the CPM of a ``froc.json``.

    Raises:
        TableError: If the file is missing or damaged.
    """
    try:
        froc = read_object(path, MAX_FROC_BYTES)
    except FileNotFoundError:
        raise TableError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise TableError(f"{path} is damaged ({str(error).removeprefix(f'{path} ')})") from None
    counts = {name: froc.get(name) for name in ("n_scans", "n_lesions")}
    figures = {name: froc.get(name) for name in ("pauc", "cpm", "pauc_interval", "few_scans")}
    if not all(type(value) is int for value in counts.values()):
        raise TableError(f"{path} is damaged (it lacks the number of scans or of lesions)")
    if figures["pauc"] is not None:
        interval = figures["pauc_interval"]
        ends = interval if isinstance(interval, list) else []
        numbers = [figures["pauc"], figures["cpm"], *ends]
        if len(ends) != 2 or not all(type(value) in (int, float) for value in numbers):
            raise TableError(f"{path} is damaged (it has a pAUC without a CI or CPM)")
    return {**counts, **figures}


def _write_scans(path: Path, scans: Mapping[int, Table]) -> None:
    fold_of: dict[str, int] = {}
    patients: dict[str, str] = {}
    for fold, table in scans.items():
        patients |= _patients(table)
        for uid in table.text(SERIES):
            if fold_of.setdefault(uid, fold) != fold:
                raise TableError(
                    f"{table.path}: scan {uid} is in fold {fold_of[uid]} and in fold {fold}; "
                    "the trainings used different stores: use another out folder"
                )
    if patients.keys() == fold_of.keys():
        rows = ((uid, fold, patients[uid]) for uid, fold in fold_of.items())
        write_table(path, (SERIES, FOLD, PATIENT), rows)
    else:
        write_table(path, (SERIES, FOLD), fold_of.items())


def _patients(scans: Table) -> dict[str, str]:
    if PATIENT not in scans.columns:  # runs of earlier versions lack it
        return {}
    return dict(zip(scans.text(SERIES), scans.text(PATIENT), strict=True))


def _seen_before(run: RunFolder, scans: Table) -> list[str]:
    origin = read_origin(run.candidates)
    return [] if origin is None else origin.warnings(scans.text(SERIES), _patients(scans))


def _join(path: Path, required: Sequence[str], parts: Sequence[Path]) -> None:
    """Concatenate CSV files.  Cells of columns that a file lacks stay empty."""
    tables = [read_table(part, required, allow_empty=True) for part in parts]
    extra = dict.fromkeys(name for t in tables for name in t.columns if name not in required)
    header = (*required, *extra)
    rows = (
        [table.columns[name][i] if name in table.columns else "" for name in header]
        for table in tables
        for i in range(len(table))
    )
    write_table(path, header, rows)


def _write_luna16(folder: Path, pooled: Pooled) -> None:
    """Write the input files of the challenge's ``noduleCADEvaluationLUNA16.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source, columns in (
        ("submission.csv", pooled.candidates, CANDIDATE_COLUMNS),
        ("annotations.csv", pooled.annotations, ANNOTATION_COLUMNS),
        ("annotations_excluded.csv", pooled.excluded, ANNOTATION_COLUMNS),
    ):
        table = read_table(source, columns, allow_empty=True)
        cells = [table.columns[column] for column in columns]
        write_table(folder / name, columns, zip(*cells, strict=True))
    uids = read_table(pooled.scans, (SERIES,)).text(SERIES)
    write_text(folder / "seriesuids.csv", "".join(f"{uid}\n" for uid in uids))


@dataclass(frozen=True)
class Report:
    """The pooled figures, and a text that reports them."""

    froc: Froc
    text: str


def report(out: Path, pooled: Pooled, bootstrap: int) -> Report:
    """Evaluate the pooled tables, and write the record and the figures.

    ``python -m nodule_det.evaluate`` writes the same ``froc.json`` for the same files.
    """
    from nodule_det.plots.folds import save_folds
    from nodule_det.plots.froc_curve import save_curve

    job = _job(pooled)
    config = EvaluateConfig(
        candidates=str(pooled.candidates),
        annotations=str(pooled.annotations),
        scans=str(pooled.scans),
        excluded=str(pooled.excluded),
        bootstrap=bootstrap,
    )
    done = evaluate(config, job)
    write_json(out / "froc.json", done.record)
    write_json(
        out / "crossval.json",
        {
            "label": LABEL[pooled.selection],
            "selection": pooled.selection.value,
            "pauc": done.froc.pauc,
            "pauc_interval": done.froc.pauc_interval,
            "cpm": done.froc.cpm,
            "folds": list(pooled.folds),
        },
    )
    save_curve(done.froc, out / "froc.png")
    save_folds(pooled.folds, done.froc, out / "folds.png")
    lines = [f"{LABEL[pooled.selection]}", "", *done.sections, "", *map(_line, pooled.folds)]
    lines += [f"warning: {line}" for line in pooled.warnings]
    files = "froc.json, crossval.json, froc.png, folds.png, candidates.csv, luna16/"
    return Report(done.froc, "\n".join([*lines, "", f"written  {out}: {files}"]))


def matched_of(pooled: Pooled) -> tuple[Matched, dict[str, str] | None]:
    """Return the matched candidates, and the patient of each scan if known."""
    job = _job(pooled)
    return match(job.cases, job.lesions, job.candidates, job.excluded), job.patients


def _job(pooled: Pooled) -> Job:
    return read_job(pooled.candidates, pooled.annotations, pooled.scans, pooled.excluded)


def hand_on(
    folder: Path,
    runs: Sequence[RunFolder],
    pooled: Pooled,
    settings: Sequence[str],
    licence: str = "",
) -> str:
    """Write the networks of some runs as a model folder; returns the text to print.

    Thresholds and calibration are fitted to the out-of-fold candidates, each from one network.

    Args:
        folder: Folder of the model.
        runs: The trainings whose best networks become the members.
        pooled: Their out-of-fold results, after :func:`report`.
        settings: Overrides that the trainings share.
        licence: Licence of the model.

    Raises:
        CheckpointError: If a network is missing or damaged.  An earlier model stays.
    """
    from nodule_det.checkpoint import load_checkpoint  # torch
    from nodule_det.plots.reliability import save_reliability

    for run in runs:
        try:
            load_checkpoint(run.checkpoint_best)
        except CheckpointError as error:
            raise CheckpointError(f"{error}.  {_again(run)}") from None
    matched, _ = matched_of(pooled)
    note, calibration, picture = "", None, pooled.folder / "reliability.png"
    try:
        calibration = fit_calibration(matched)
    except FrocInputError as error:
        note = f" (without calibration: {error})"
        picture.unlink(missing_ok=True)  # of an earlier pooling
    else:
        true, false = matched.lesion_score[matched.found], matched.fp_score
        is_true = np.repeat([True, False], [len(true), len(false)])
        probability = calibration.probability(np.concatenate([true, false]))
        save_reliability(probability, is_true, picture)
    figures = json.loads((pooled.folder / "crossval.json").read_text(encoding="utf-8"))
    names = ("label", "pauc", "pauc_interval", "cpm")
    write_model(
        Model(
            path=folder,
            members=tuple(run.checkpoint_best for run in runs),
            thresholds=thresholds(matched) if matched.n_lesions else {},
            calibration=calibration,
            figures={name: figures[name] for name in names},
            settings=_shareable(settings),
            data=hashlib.sha256("\n".join(sorted(matched.cases.tolist())).encode()).hexdigest(),
            scans=_seen(runs),
            licence=licence,
        )
    )
    networks = counted(len(runs), "network")
    return f"model    {folder}: {networks}{note}; use it with predict model={folder}"


def _shareable(settings: Sequence[str]) -> dict[str, str]:
    """Return the settings without paths and addresses of the site, since a model is handed on."""
    pairs = dict(word.split("=", 1) for word in settings)
    return {name: value for name, value in pairs.items() if name not in OF_THE_SITE}


def _seen(runs: Sequence[RunFolder]) -> ScanRecord:
    """Return what any of the networks has seen; runs of earlier versions do not say."""
    origins = [read_origin(run.candidates) for run in runs]
    return union(UNKNOWN if origin is None else origin.scans for origin in origins)


def _line(figures: dict[str, Any]) -> str:
    found = (counted(figures["n_lesions"], "lesion"), counted(figures["n_scans"], "scan"))
    text = f"fold {figures[FOLD]}: {' in '.join(found)}"
    if figures["pauc"] is None:
        return f"{text}, pAUC undefined"
    if figures["few_scans"]:
        return f"{text}, pAUC {figures['pauc']:.3f} (too few scans for a CI)"
    low, high = figures["pauc_interval"]
    return f"{text}, pAUC {figures['pauc']:.3f} (95% CI {low:.3f} to {high:.3f})"
