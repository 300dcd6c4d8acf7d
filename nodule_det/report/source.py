"""The input of a report: a training run, or the CSV files of any detector.

ReportConfig ──open_source()──▶ Source(job, scans, where to write, how to resample)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nodule_det import __version__
from nodule_det.config.files import saved_settings
from nodule_det.config.report import ReportConfig
from nodule_det.errors import ConfigError, TableError
from nodule_det.evaluate.hits import Files, HitBy, hit_by, rules_of_files
from nodule_det.evaluate.reading import Job, read_job
from nodule_det.froc import HitRules
from nodule_det.packing import unpacked
from nodule_det.report.scans import Scans, find_store, from_images, from_store
from nodule_det.runs import RunFolder
from nodule_det.untrusted import printable, read_object, read_text

MAX_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Source:
    """All inputs of the page.

    Attributes:
        name: Name of the detector, for the title.
        job: Scans, lesions and candidates.
        candidates: The candidates' file, for their diameters.
        scans: The voxels.
        out: HTML file to write.
        bootstrap: Number of resamples for the CIs.
        seed: Seed of the resamples.
        provenance: How the results were produced.
        training: PNG of the curves of the training, if there is one.
        hit: What decides about hits; None for the distance to the centre.
        rules: The same, for the matching.
    """

    name: str
    job: Job
    candidates: Path
    scans: Scans
    out: Path
    bootstrap: int
    seed: int
    provenance: str
    hit: HitBy
    rules: HitRules | None
    training: Path | None = None


@contextmanager
def open_source(config: ReportConfig) -> Iterator[Source]:
    """Read the tables, open the scans, and keep the files available.

    The tables of a finished trial may be packed; they are then read from a temporary copy.

    Raises:
        ConfigError: If ``run`` does not hold a validated run.
        StoreError, ScanError: If a scan is missing.
        TableError: If a table is missing or damaged.
    """
    if not config.run:
        yield _of_tables(config)
        return
    with unpacked(Path(config.run)) as files:
        yield _of_run(config, files)


def _hits(config: ReportConfig, job: Job, candidates: Path, files: Files) -> dict[str, Any]:
    by = hit_by(config.hit, config.iou, config.masks, config.candidate_masks)
    return {"hit": by, "rules": rules_of_files(by, job, candidates, files)}


def _of_run(config: ReportConfig, folder: RunFolder) -> Source:
    run_dir = Path(config.run)
    if not folder.candidates.exists():
        raise ConfigError(
            f"run={config.run} holds no {folder.candidates.name}: it is not a run folder, or the "
            "run has not been validated yet"
        )
    settings = saved_settings(folder.config)
    job = read_job(folder.candidates, folder.annotations, folder.scans, folder.excluded)
    store = config.store or find_store(settings["store"], run_dir)
    return Source(
        name=run_dir.resolve().name,
        job=job,
        candidates=folder.candidates,
        scans=from_store(store, job.cases.tolist()),
        out=Path(config.out) if config.out else run_dir / "report.html",
        bootstrap=settings["validation"]["bootstrap"],
        seed=settings["seed"],
        provenance=_provenance(folder),
        **_hits(config, job, folder.candidates, Files(folder.annotations, folder.excluded)),
        training=folder.training_figure if folder.training_figure.is_file() else None,
    )


def _of_tables(config: ReportConfig) -> Source:
    candidates = Path(config.candidates)
    excluded = Path(config.excluded) if config.excluded else None
    job = read_job(candidates, Path(config.annotations), Path(config.scans), excluded)
    uids = job.cases.tolist()
    scans = from_images(config.images, uids) if config.images else from_store(config.store, uids)
    return Source(
        name=candidates.stem,
        job=replace(job, patients=job.patients or scans.patients),
        candidates=candidates,
        scans=scans,
        out=Path(config.out or "report.html"),
        bootstrap=config.bootstrap,
        seed=config.seed,
        provenance=f"candidates {candidates} · annotations {config.annotations} · "
        f"nodule_det {__version__}",
        **_hits(config, job, candidates, Files(Path(config.annotations), excluded)),
    )


def _provenance(folder: RunFolder) -> str:
    try:
        environment = read_object(folder.environment, MAX_BYTES)
        command = read_text(folder.command, MAX_BYTES)
    except ValueError as error:
        raise TableError(f"{error}; copy the run folder again") from None
    commit = f", commit {str(environment['commit'])[:12]}" if environment.get("commit") else ""
    return f"{printable(command, MAX_BYTES)} · nodule_det {__version__}{commit}"
