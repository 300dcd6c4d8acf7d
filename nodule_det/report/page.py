"""The page itself: a run folder and its store -> one HTML file that needs nothing else.

run_dir ──read_job──▶ match ──▶ Froc, strata, findings ──page.html.j2──▶ report.html
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from nodule_det import __version__
from nodule_det.analysis import Froc, analyse
from nodule_det.analysis.audit import audit
from nodule_det.analysis.strata import analyse_strata, diameter_labels
from nodule_det.config.report import ReportConfig
from nodule_det.data.store import StoredScan, open_store
from nodule_det.errors import ConfigError, StoreError
from nodule_det.evaluate.reading import Job, read_job
from nodule_det.files import write_text
from nodule_det.froc import Matched, match
from nodule_det.plots.froc_curve import curve_svg
from nodule_det.progress import track
from nodule_det.report.cases import Scored, list_findings
from nodule_det.report.cubes import COLUMNS, EDGE
from nodule_det.runs import RunFolder
from nodule_det.tables import ANNOTATION_COLUMNS, DIAMETER, read_table

CANDIDATE_MM = 6.0
"""Diameter drawn for a candidate whose file gives none."""

RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
RATE_WORDS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")

OUTCOMES = (("hit", "hit"), ("miss", "missed"), ("fp", "false positive"))


def write_report(config: ReportConfig) -> tuple[Path, int]:
    """Write the page; returns its path and how many findings it shows.

    Raises:
        ConfigError: If the folder holds no finished validation.
        StoreError: If the store of the scans is missing, or lacks one of them.
        TableError: If a table of the run is damaged.
    """
    folder = RunFolder(Path(config.run))
    if not folder.candidates.exists():
        raise ConfigError(
            f"run={config.run} holds no {folder.candidates.name}: it is no run folder, or the run "
            "has not been validated yet"
        )
    settings = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    job = read_job(folder.candidates, folder.annotations, folder.scans, folder.excluded)
    matched = match(job.cases, job.lesions, job.candidates, job.excluded)
    froc = analyse(
        matched,
        bootstrap=settings["validation"]["bootstrap"],
        seed=settings["seed"],
        patients=job.patients,
    )
    scans = _scans(config.store or settings["store"], job)
    window = (config.window_low_hu, config.window_high_hu)
    findings = list(
        track(
            list_findings(
                _scored(folder, job, matched),
                scans,
                false_positives_per_scan=config.false_positives_per_scan,
                window_hu=window,
            ),
            "findings",
            _count(matched, config.false_positives_per_scan),
        )
    )
    out = Path(config.out) if config.out else folder.path / "report.html"
    write_text(out, _render(folder, settings, job, matched, froc, findings, window))
    return out, len(findings)


def _scans(store: str, job: Job) -> dict[str, StoredScan]:
    scans = {scan.series_uid: scan for scan in open_store(store).scans}
    missing = [uid for uid in job.cases.tolist() if uid not in scans]
    if missing:
        raise StoreError(
            f"store={store} lacks {len(missing)} of the run's {len(job.cases)} scans, such as "
            f"{missing[0]}; give the store of this run"
        )
    return scans


def _scored(folder: RunFolder, job: Job, matched: Matched) -> Scored:
    table = read_table(folder.candidates, (), allow_empty=True)
    return Scored(
        lesions=job.lesions,
        notes=_notes(job),
        candidates=job.candidates,
        candidate_diameter_mm=table.numbers(DIAMETER)
        if DIAMETER in table.columns
        else np.full(len(job.candidates), CANDIDATE_MM),
        matched=matched,
    )


def _notes(job: Job) -> list[str]:
    """Put the further columns of the annotation into words, one text per lesion."""
    more = [name for name in job.lesion_table.columns if name not in ANNOTATION_COLUMNS]
    columns = {name: job.lesion_table.text(name) for name in more}
    return [
        ", ".join(f"{name} {column[i]}" for name, column in columns.items() if column[i])
        for i in range(len(job.lesion_table))
    ]


def _count(matched: Matched, false_positives: int) -> int:
    per_case = np.bincount(matched.fp_case, minlength=matched.n_cases)
    return matched.n_lesions + int(np.minimum(per_case, false_positives).sum())


def _render(
    folder: RunFolder,
    settings: dict[str, Any],
    job: Job,
    matched: Matched,
    froc: Froc,
    findings: list[dict[str, Any]],
    window: tuple[int, int],
) -> str:
    here = files("nodule_det.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    data = {"edge": EDGE, "columns": COLUMNS, "findings": findings}
    return template.render(
        title=f"Lung nodules found by {folder.path.resolve().name}",
        css=here.joinpath("page.css").read_text(encoding="utf-8"),
        js=here.joinpath("page.js").read_text(encoding="utf-8"),
        froc=froc,
        curve_svg=curve_svg(froc) if froc.pauc is not None else "",
        rates=RATE_WORDS,
        sizes=_sizes(job, matched, settings),
        audit=[
            found.message for found in audit(job.lesions, job.candidates, job.excluded, matched)
        ],
        outcomes=OUTCOMES,
        edge=EDGE,
        window=window,
        provenance=_provenance(folder),
        data_json=_script_json(data),
    )


def _sizes(job: Job, matched: Matched, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if not matched.n_lesions:
        return []
    strata = analyse_strata(
        matched, diameter_labels(job.lesions.diameter_mm), bootstrap=2, seed=settings["seed"]
    )
    order = {label: n for n, label in enumerate(diameter_labels(np.arange(0.0, 99.0)))}
    return [
        {
            "label": label,
            "n_lesions": group.n_lesions,
            "pauc": f"{group.pauc:.3f}",
            "sensitivity": [f"{s:.2f}" for s in group.sensitivity],
        }
        for label, group in sorted(strata.items(), key=lambda item: order[item[0]])
    ]


def _provenance(folder: RunFolder) -> str:
    environment = json.loads(folder.environment.read_text(encoding="utf-8"))
    commit = f", commit {environment['commit'][:12]}" if environment.get("commit") else ""
    return f"{folder.command.read_text().strip()} · nodule_det {__version__}{commit}"


def _script_json(data: dict[str, Any]) -> str:
    """Write JSON that cannot end the script element which holds it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
