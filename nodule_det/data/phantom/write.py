"""A phantom data set on disk, in LUNA16's layout and a hospital's file formats.

    config ──write_dataset()──▶ folder/
                                  phantom.json            settings; a folder of others is refused
                                  subset0 ... subset4/    UID.mhd + .raw, UID.nii.gz or UID/*.dcm
                                  findings/UID.json       truth of a scan, written before it
                                  annotations.csv  annotations_excluded.csv  seriesuids.csv

Scan i is made from seed + i and goes to subset i mod ``folds``, so a larger data set extends a
smaller one.  A scan is complete once its image exists: it is written into a hidden folder beside
the target, and the file that a reader looks for (the header) is renamed into place last.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodule_det.config.data import PhantomConfig, PhantomShapes
from nodule_det.cpus import available_cpus
from nodule_det.data.phantom.images import image_name, write_image
from nodule_det.data.phantom.make import GENERATOR, make_scan, series_uid
from nodule_det.data.phantom.shapes import SHAPE_COLUMNS
from nodule_det.data.scan import Finding
from nodule_det.errors import LayoutError
from nodule_det.files import write_json, write_text
from nodule_det.progress import Progress, counted
from nodule_det.tables import ANNOTATION_COLUMNS, write_table
from nodule_det.untrusted import read_object, read_text

SETTINGS_FILE, FINDINGS_FOLDER = "phantom.json", "findings"
MAX_SETTINGS_BYTES, MAX_FINDINGS_BYTES = 2**16, 2**22
NODULE_COLUMNS = ("texture", "attachment", "spiculation", "calcified")
EXCLUDED_COLUMNS = ("kind",)
"""The phantom's additional columns, after LUNA16's five."""

FIRST = {"shapes": "ball", "scanners": "standard"}
"""Values of settings that the ``phantom.json`` of an earlier version lacks."""


def write_dataset(folder: Path, config: PhantomConfig, workers: int = 0) -> None:
    """Make the missing scans, and write the data set's tables.

    Args:
        folder: Folder of the data set, created if missing.
        config: Number, size, format and seed of the scans.
        workers: Number of processes, which does not affect the result; 0: one for each CPU this job
            may use.

    Raises:
        LayoutError: If the folder holds a data set with other settings, or cannot be written.
        ConfigError: If the nodules do not fit.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _damage_named(folder):
            _claim(folder, config)
        _make_missing(folder, config, workers or available_cpus())
        with _damage_named(folder):
            _write_tables(folder, config)
    except OSError as error:
        raise LayoutError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); free space "
            "there, ask for the right to write, or use another folder"
        ) from error


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    """Refuse a damaged file of an earlier call in one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutError(
            f"{folder} has a damaged {SETTINGS_FILE} or file in {FINDINGS_FOLDER}/ ({error}); "
            "delete the folder, and the same command makes the same scans again"
        ) from error


def _claim(folder: Path, config: PhantomConfig) -> None:
    """Record the settings, or refuse a folder made with others."""
    path = folder / SETTINGS_FILE
    asked = _settings(config)
    if path.exists():
        there = read_object(path, MAX_SETTINGS_BYTES)
        for name, value in asked.items():
            if name != "n_scans" and there.get(name, FIRST.get(name)) != value:
                raise LayoutError(
                    f"{folder} holds phantom scans made with phantom.{name}="
                    f"{there.get(name, FIRST.get(name))} but you requested {value}; use another "
                    "folder or delete this one"
                )
        if there["n_scans"] > config.n_scans:
            raise LayoutError(
                f"{folder} holds {counted(there['n_scans'], 'phantom scan')}, more than "
                f"phantom.n_scans={config.n_scans}; ask for at least as many, or use another folder"
            )
    elif any(folder.iterdir()):
        raise LayoutError(
            f"{folder} is not empty and has no {SETTINGS_FILE}, so it is not a phantom data set; "
            "use another folder"
        )
    write_json(path, asked)


def _settings(config: PhantomConfig) -> dict[str, Any]:
    return {
        "generator": GENERATOR,
        "seed": config.seed,
        "size_vox": list(config.size_vox),
        "nodules_per_scan": float(config.nodules_per_scan),
        "format": config.format.value,
        "folds": config.folds,
        "n_scans": config.n_scans,
        "shapes": config.shapes.value,
        "scanners": config.scanners.value,
    }


def _make_missing(folder: Path, config: PhantomConfig, workers: int) -> None:
    """Make the missing scans, in this process or in several."""
    (folder / FINDINGS_FOLDER).mkdir(exist_ok=True)
    for fold in range(config.folds):
        (folder / f"subset{fold}").mkdir(exist_ok=True)
    missing = [i for i in range(config.n_scans) if not image_path(folder, config, i).exists()]
    with Progress("phantom scans", config.n_scans) as progress:
        progress.start_at(config.n_scans - len(missing))
        run = _in_turn if min(workers, len(missing)) <= 1 else _in_processes(workers)
        for _ in run(folder, config, missing):
            progress.advance()


Runner = Callable[[Path, PhantomConfig, list[int]], Iterable[None]]


def _in_turn(folder: Path, config: PhantomConfig, indices: list[int]) -> Iterable[None]:
    for index in indices:
        write_scan(folder, config, index)
        yield None


def _in_processes(workers: int) -> Runner:
    def run(folder: Path, config: PhantomConfig, indices: list[int]) -> Iterable[None]:
        fresh = multiprocessing.get_context("spawn")  # a fork would copy torch's threads' locks
        with ProcessPoolExecutor(min(workers, len(indices)), mp_context=fresh) as pool:
            jobs = [pool.submit(write_scan, folder, config, index) for index in indices]
            try:
                for job in as_completed(jobs):
                    yield job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    return run


def image_path(folder: Path, config: PhantomConfig, index: int) -> Path:
    """Return the path at which a reader opens scan ``index``: header, file, or folder of slices."""
    uid = series_uid(config.seed + index, config)
    return folder / f"subset{index % config.folds}" / image_name(uid, config.format)


def write_scan(folder: Path, config: PhantomConfig, index: int) -> None:
    """Make and write scan ``index``: first its truth, then its image."""
    scan, findings = make_scan(config.seed + index, config)
    write_json(_findings_path(folder, scan.series_uid), [_as_dict(f) for f in findings])
    write_image(scan, image_path(folder, config, index), config.format)


def _findings_path(folder: Path, uid: str) -> Path:
    return folder / FINDINGS_FOLDER / f"{uid}.json"


def _read_findings(path: Path) -> list[dict[str, Any]]:
    findings = json.loads(read_text(path, MAX_FINDINGS_BYTES))
    if not isinstance(findings, list):
        raise TypeError(f"{path.name} does not hold a list")
    return findings


def _as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "center_mm": list(finding.center_mm),
        "diameter_mm": finding.diameter_mm,
        "excluded": finding.excluded,
        "attributes": finding.attributes,
    }


def _write_tables(folder: Path, config: PhantomConfig) -> None:
    """Write LUNA16's three tables from the findings of the single scans."""
    uids = [series_uid(config.seed + i, config) for i in range(config.n_scans)]
    lesions: list[list[object]] = []
    excluded: list[list[object]] = []
    shaped = config.shapes is not PhantomShapes.ball
    nodule_columns = (*NODULE_COLUMNS, *SHAPE_COLUMNS) if shaped else NODULE_COLUMNS
    for uid in uids:
        for finding in _read_findings(_findings_path(folder, uid)):
            more = EXCLUDED_COLUMNS if finding["excluded"] else nodule_columns
            row = [uid, *finding["center_mm"], finding["diameter_mm"]]
            row += [finding["attributes"][name] for name in more]
            (excluded if finding["excluded"] else lesions).append(row)
    write_table(folder / "annotations.csv", (*ANNOTATION_COLUMNS, *nodule_columns), lesions)
    write_table(
        folder / "annotations_excluded.csv", (*ANNOTATION_COLUMNS, *EXCLUDED_COLUMNS), excluded
    )
    write_text(folder / "seriesuids.csv", "".join(f"{uid}\n" for uid in uids))
