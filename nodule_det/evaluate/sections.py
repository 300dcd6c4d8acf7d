"""Everything that an evaluation computes, as text to print and as one record to keep.

EvaluateConfig, Job ──evaluate()──▶ Evaluated: Froc, record for froc.json, sections of text
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.analysis import (
    AuditFinding,
    Froc,
    Level,
    analyse,
    analyse_strata,
    audit,
    capped,
    challenge_figures,
    common_scans,
    compare,
    diameter_labels,
    jafroc,
    keep_cases,
    wafroc,
)
from nodule_det.config.evaluate import Compat, EvaluateConfig
from nodule_det.config.hits import HitBy as HitSetting
from nodule_det.errors import ConfigError
from nodule_det.evaluate.hits import Files, HitBy, describe, hit_by, rules_of_files
from nodule_det.evaluate.reading import Job, read_candidates
from nodule_det.evaluate.words import (
    audit_lines,
    challenge_table,
    comparison_table,
    figures_table,
    strata_table,
)
from nodule_det.froc import Candidates, HitRules, Matched, match
from nodule_det.origin import NO_PATIENTS
from nodule_det.progress import counted, of_total
from nodule_det.tables import DIAMETER

BY_DIAMETER = "diameter"


@dataclass(frozen=True)
class Evaluated:
    """The results of an evaluation."""

    froc: Froc
    record: dict[str, Any]
    """The content of ``froc.json``: the figures, and what else was requested."""
    sections: tuple[str, ...]
    """Text to print, one section after the other."""


def evaluate(config: EvaluateConfig, job: Job) -> Evaluated:
    """Compute all figures that the settings request."""
    candidates = _looked_at(config, job.candidates)
    rules = _rules(config, replace(job, candidates=candidates), config.candidates)
    matched = _match(config, job, candidates, rules)
    froc = analyse(
        matched,
        upper=config.upper,
        bootstrap=config.bootstrap,
        seed=config.seed,
        interval=config.interval.value,
        patients=job.patients,
    )
    merits = {
        name: merit(matched, bootstrap=config.bootstrap, seed=config.seed, patients=job.patients)
        for name, merit in (("JAFROC", jafroc), ("wAFROC", wafroc))
    }
    findings = seen_before(job) + _audit(config, job, candidates, matched) + _trimmed(job)
    record = (
        froc.as_dict()
        | _hit_record(config)
        | {name.lower(): merit.as_dict() for name, merit in merits.items()}
    )
    sections = [figures_table(froc, merits, describe(_hit_by(config)))]
    if kind := figure_kind(job):
        record["kind"] = kind
        sections.insert(0, f"figures: {kind}")
    if matched.n_lesions:
        for add in (_challenge, _strata, _comparison):
            sections += add(config, job, matched, record)
    record["audit"] = [finding.as_dict() for finding in findings]
    return Evaluated(froc, record, (*sections, audit_lines(findings)))


def figure_kind(job: Job) -> str:
    """Say whether figures are of a validation, cross-validated or of a test; empty if unknown."""
    if job.origin is None:
        return ""
    return job.origin.kind_on(job.cases.tolist(), job.patients or NO_PATIENTS)


def seen_before(job: Job) -> list[AuditFinding]:
    """Return warnings for scans and patients that the network was trained or selected on."""
    if job.origin is None:
        return []
    lines = job.origin.warnings(job.cases.tolist(), job.patients or NO_PATIENTS)
    return [AuditFinding(Level.WARNING, "seen_before", line) for line in lines]


def _looked_at(config: EvaluateConfig, candidates: Candidates) -> Candidates:
    if config.compat is Compat.luna16:
        return candidates.take(capped(candidates))
    return candidates


def _rules(config: EvaluateConfig, job: Job, path: str) -> HitRules | None:
    """Read the boxes of a detector's file, or the masks; ``job`` has its candidates."""
    files = Files(Path(config.annotations), Path(config.excluded) if config.excluded else None)
    return rules_of_files(_hit_by(config), job, Path(path), files)


def _match(
    config: EvaluateConfig, job: Job, candidates: Candidates, rules: HitRules | None
) -> Matched:
    return match(
        job.cases,
        job.lesions,
        candidates,
        job.excluded,
        rules,
        drop_unknown_findings=config.drop_unknown_findings,
        drop_unknown_candidates=config.drop_unknown_candidates,
        drop_nan=config.drop_nan,
    )


def _hit_by(config: EvaluateConfig) -> HitBy:
    return hit_by(config.hit, config.iou, config.masks, config.candidate_masks)


def _hit_record(config: EvaluateConfig) -> dict[str, Any]:
    """Return what decided about hits, for ``froc.json``."""
    return {"hit": config.hit.value} | ({"iou": config.iou} if config.hit is HitSetting.iou else {})


def _audit(
    config: EvaluateConfig, job: Job, candidates: Candidates, matched: Matched
) -> list[AuditFinding]:
    by_centre = None if _hit_by(config) is None else _match(config, job, candidates, None)
    return audit(job.lesions, candidates, job.excluded, matched, by_centre)


def _challenge(
    config: EvaluateConfig, job: Job, matched: Matched, record: dict[str, Any]
) -> list[str]:
    if config.compat is not Compat.luna16:
        return []
    n_capped = len(job.candidates) - len(capped(job.candidates))
    figures = challenge_figures(
        matched, bootstrap=config.bootstrap, seed=config.seed, n_capped=n_capped
    )
    record["luna16"] = figures.as_dict()
    return [challenge_table(figures)]


def _strata(
    config: EvaluateConfig, job: Job, matched: Matched, record: dict[str, Any]
) -> list[str]:
    if not config.strata:
        return []
    known = np.isin(job.lesions.case, job.cases)
    labels = np.array(_labels(config.strata, job), np.str_)[known].tolist()
    strata = analyse_strata(
        matched,
        labels,
        upper=config.upper,
        bootstrap=config.bootstrap,
        seed=config.seed,
        interval=config.interval.value,
        patients=job.patients,
    )
    record["strata"] = {
        "column": config.strata,
        "groups": {label: froc.as_dict() for label, froc in strata.items()},
    }
    return [strata_table(config.strata, strata)]


def _labels(column: str, job: Job) -> list[str]:
    if column == BY_DIAMETER:
        return diameter_labels(job.lesions.diameter_mm)
    if column not in job.lesion_table.columns:
        names = [name for name in job.lesion_table.columns if name != DIAMETER]
        raise ConfigError(
            f"strata={column} is not a column of {job.lesion_table.path}: use {BY_DIAMETER} or one "
            f"of {', '.join(names)}"
        )
    return job.lesion_table.text(column)


def _comparison(
    config: EvaluateConfig, job: Job, matched: Matched, record: dict[str, Any]
) -> list[str]:
    if not config.compare:
        return []
    path = Path(config.compare)
    other, n_trimmed = read_candidates(path)
    other = _looked_at(config, other)
    rules = _rules(config, replace(job, candidates=other), config.compare)
    second = _match(config, job, other, rules)
    findings = _audit(config, job, other, second) + _blanks(n_trimmed)
    common = common_scans(matched.cases, _looked_at(config, job.candidates), other)
    if len(common) < matched.n_cases:
        matched, second = (keep_cases(m, common) for m in (matched, second))
        findings.insert(0, _restricted(matched, job))
    record["comparison"] = {
        "other": config.compare,
        "audit": [finding.as_dict() for finding in findings],
    }
    said = [f"the other detector, {path.name}", audit_lines(findings)]
    if not matched.n_lesions:
        return ["\n".join([*said, "no comparison: the common scans have no lesion"])]
    comparison = compare(
        matched,
        second,
        upper=config.upper,
        bootstrap=config.bootstrap,
        permutations=config.permutations,
        seed=config.seed,
        detect=config.detect,
        patients=job.patients,
    )
    record["comparison"] |= comparison.as_dict()
    return [comparison_table(comparison), "\n".join(said)]


def _restricted(common: Matched, job: Job) -> AuditFinding:
    return AuditFinding(
        Level.WARNING,
        "compared_on_common_scans",
        "the two detectors have candidates in different scans: the comparison uses the "
        f"{of_total(common.n_cases, len(job.cases), 'scan')} in which both have some. Run both on "
        "all scans",
    )


def _trimmed(job: Job) -> list[AuditFinding]:
    return _blanks(job.n_trimmed)


def _blanks(n: int) -> list[AuditFinding]:
    if not n:
        return []
    words = f"{counted(n, 'id')} had blanks around the text, which were removed"
    return [AuditFinding(Level.NOTE, "trimmed_ids", words)]
