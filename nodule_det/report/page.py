"""The report page: a detector's results and its scans -> one self-contained HTML file.

run=, or CSV files ──open_source()──▶ Source ──match──▶ Froc, strata, findings
                                               ──page.html.j2──▶ report.html
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from nodule_det.analysis import Froc, analyse
from nodule_det.analysis.audit import AuditFinding, audit
from nodule_det.analysis.strata import analyse_strata, diameter_labels
from nodule_det.arrays import FloatArray
from nodule_det.config.report import ReportConfig
from nodule_det.evaluate.hits import describe
from nodule_det.evaluate.reading import Job
from nodule_det.evaluate.sections import figure_kind, seen_before
from nodule_det.files import write_text
from nodule_det.froc import CPM_RATES, Matched, match
from nodule_det.plots.froc_curve import TOP, curve_svg
from nodule_det.plots.style import FALSE_POSITIVE, HIT, MISS
from nodule_det.progress import track
from nodule_det.report.cases import Scored, list_cases, list_findings
from nodule_det.report.cubes import COLUMNS, EDGE, KNOTS_GREY, KNOTS_HU
from nodule_det.report.source import Source, open_source
from nodule_det.tables import ANNOTATION_COLUMNS, DIAMETER, read_table
from nodule_det.untrusted import read_bytes

MAX_PICTURE_BYTES = 2**24

CANDIDATE_MM = 6.0
"""Diameter drawn for a candidate without one in its file."""

RATE_NAMES = {1 / 8: "1/8", 1 / 4: "1/4", 1 / 2: "1/2"}

OUTCOMES = (("miss", "missed"), ("hit", "found"), ("fp", "false positive"))

WINDOWS = (
    {"name": "lung", "key": "1", "width": 1500, "level": -600},
    {"name": "mediastinum", "key": "2", "width": 400, "level": 40},
    {"name": "bone", "key": "3", "width": 1800, "level": 400},
)
"""Window width and level in HU, as most PACS have them."""

TOP_FALSE_POSITIVES = 8


def write_report(config: ReportConfig) -> tuple[Path, int]:
    """Write the page; return its path and the number of findings it shows.

    Raises:
        ConfigError: If the folder does not hold a validated run.
        StoreError, ScanError: If the scans are missing, or cannot be read.
        TableError: If a table is damaged.
    """
    with open_source(config) as source:
        job = source.job
        matched = match(job.cases, job.lesions, job.candidates, job.excluded, source.rules)
        figures = _Figures.of(source, matched)
        most = config.false_positives_per_scan
        rows = list_findings(_scored(source, matched), source.scans, false_positives_per_scan=most)
        findings = list(track(rows, "findings", _count(matched, most)))
        write_text(source.out, _render(source, matched, figures, findings))
    return source.out, len(findings)


@dataclass(frozen=True)
class _Figures:
    """FROC figures of all lesions, and of each size."""

    froc: Froc
    sizes: dict[str, Froc]

    @classmethod
    def of(cls, source: Source, matched: Matched) -> _Figures:
        patients = source.job.patients
        froc = analyse(matched, bootstrap=source.bootstrap, seed=source.seed, patients=patients)
        if not matched.n_lesions:
            return cls(froc, {})
        sizes = analyse_strata(
            matched,
            diameter_labels(source.job.lesions.diameter_mm),
            bootstrap=source.bootstrap,
            seed=source.seed,
            patients=patients,
        )
        order = {label: n for n, label in enumerate(diameter_labels(np.arange(0.0, 99.0)))}
        return cls(froc, dict(sorted(sizes.items(), key=lambda item: order[item[0]])))


def _scored(source: Source, matched: Matched) -> Scored:
    job = source.job
    return Scored(
        lesions=job.lesions,
        notes=_notes(job),
        candidates=job.candidates,
        candidate_diameter_mm=_candidate_diameters(source.candidates, len(job.candidates)),
        matched=matched,
    )


def _audit(source: Source, matched: Matched) -> list[AuditFinding]:
    job, by_centre = source.job, None
    if source.rules is not None:
        by_centre = match(job.cases, job.lesions, job.candidates, job.excluded)
    return audit(job.lesions, job.candidates, job.excluded, matched, by_centre)


def _candidate_diameters(path: Path, n: int) -> FloatArray:
    table = read_table(path, (), allow_empty=True)
    if DIAMETER in table.columns:
        return table.numbers(DIAMETER)
    return np.full(n, CANDIDATE_MM)


def _notes(job: Job) -> list[str]:
    """Join the further columns of the annotations, one text per lesion."""
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
    source: Source, matched: Matched, figures: _Figures, findings: list[dict[str, Any]]
) -> str:
    here = files("nodule_det.report")
    texts = {
        name: here.joinpath(f"page.{name}").read_text(encoding="utf-8")
        for name in ("html.j2", "css", "viewer.js", "js")
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    job, froc = source.job, figures.froc
    picture = curve_svg(froc) if froc.pauc is not None else None
    false_positives = [f for f in findings if f["outcome"] == "fp"]
    return environment.from_string(texts["html.j2"]).render(
        title=f"Lung nodules found by {source.name}",
        css=texts["css"],
        scripts=[texts["viewer.js"], texts["js"]],
        colours={"hit": HIT.colour, "miss": MISS.colour, "fp": FALSE_POSITIVE.colour},
        froc=froc,
        curve_svg=picture.svg if picture else "",
        rates=[RATE_NAMES.get(rate, f"{rate:g}") for rate in CPM_RATES],
        training=_data_uri(source.training) if source.training else "",
        rows=[("all", froc), *figures.sizes.items()] if froc.pauc is not None else [],
        top=sorted(false_positives, key=lambda f: -f["score"])[:TOP_FALSE_POSITIVES],
        kind=figure_kind(job),
        rule=describe(source.hit),
        audit=[
            found.message
            for found in [
                *seen_before(job),
                *_audit(source, matched),
            ]
        ],
        outcomes=OUTCOMES,
        windows=WINDOWS,
        edge=EDGE,
        provenance=source.provenance,
        data_json=_script_json(
            {
                "edge": EDGE,
                "columns": COLUMNS,
                "knots": {"hu": KNOTS_HU, "grey": KNOTS_GREY},
                "windows": WINDOWS,
                "plot": picture and {"box": picture.box, "rates": picture.rates, "top": TOP},
                "band": {"rates": froc.band_rates, "pairs": () if froc.few_scans else froc.band},
                "cases": list_cases(matched),
                "findings": findings,
            }
        ),
    )


def _data_uri(png: Path) -> str:
    content = base64.b64encode(read_bytes(png, MAX_PICTURE_BYTES)).decode()
    return f"data:image/png;base64,{content}"


def _script_json(data: dict[str, Any]) -> str:
    """Return JSON that cannot close the script element around it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
