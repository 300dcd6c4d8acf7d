"""Everything that was asked of an evaluation, as text to print and as one record to keep.

EvaluateConfig, Job ──evaluate()──▶ Evaluated: Froc, record for froc.json, sections of text
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det.analysis import (
    AuditFinding,
    Froc,
    Interval,
    Level,
    analyse,
    analyse_strata,
    audit,
    capped,
    challenge_figures,
    compare,
    diameter_labels,
    jafroc,
)
from nodule_det.config.evaluate import Compat, EvaluateConfig
from nodule_det.errors import ConfigError
from nodule_det.evaluate.reading import Job, read_candidates
from nodule_det.evaluate.words import (
    audit_lines,
    challenge_table,
    comparison_table,
    figures_table,
    strata_table,
)
from nodule_det.froc import Candidates, Matched, match
from nodule_det.tables import DIAMETER

BY_DIAMETER = "diameter"


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to."""

    froc: Froc
    record: dict[str, Any]
    """The content of ``froc.json``: the figures, and what was asked beside them."""
    sections: tuple[str, ...]
    """What is printed, one after the other."""


def evaluate(config: EvaluateConfig, job: Job) -> Evaluated:
    """Compute all that the settings ask for."""
    candidates = _looked_at(config, job.candidates)
    matched = _match(config, job, candidates)
    froc = analyse(
        matched,
        upper=config.upper,
        bootstrap=config.bootstrap,
        seed=config.seed,
        interval=Interval(config.interval.value),
    )
    merit = jafroc(matched, bootstrap=config.bootstrap, seed=config.seed)
    findings = audit(job.lesions, candidates, job.excluded, matched) + _trimmed(job)
    record = froc.as_dict() | {"jafroc": merit.as_dict()}
    sections = [figures_table(froc, merit)]
    if matched.n_lesions:
        for add in (_challenge, _strata, _comparison):
            sections += add(config, job, matched, record)
    record["audit"] = [finding.as_dict() for finding in findings]
    return Evaluated(froc, record, (*sections, audit_lines(findings)))


def _looked_at(config: EvaluateConfig, candidates: Candidates) -> Candidates:
    if config.compat is Compat.luna16:
        return candidates.take(capped(candidates))
    return candidates


def _match(config: EvaluateConfig, job: Job, candidates: Candidates) -> Matched:
    return match(
        job.cases,
        job.lesions,
        candidates,
        job.excluded,
        drop_unknown_findings=config.drop_unknown_findings,
        drop_unknown_candidates=config.drop_unknown_candidates,
        drop_nan=config.drop_nan,
    )


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
        interval=Interval(config.interval.value),
    )
    if config.strata == BY_DIAMETER:
        size_mm = dict(zip(labels, job.lesions.diameter_mm[known], strict=True))
        strata = {label: strata[label] for label in sorted(strata, key=size_mm.__getitem__)}
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
            f"strata={column} is no column of {job.lesion_table.path}; use {BY_DIAMETER} or one of "
            f"{', '.join(names)}"
        )
    return job.lesion_table.text(column)


def _comparison(
    config: EvaluateConfig, job: Job, matched: Matched, record: dict[str, Any]
) -> list[str]:
    if not config.compare:
        return []
    other, _ = read_candidates(Path(config.compare))
    comparison = compare(
        matched,
        _match(config, job, _looked_at(config, other)),
        upper=config.upper,
        bootstrap=config.bootstrap,
        permutations=config.permutations,
        seed=config.seed,
        detect=config.detect,
    )
    record["comparison"] = comparison.as_dict() | {"other": config.compare}
    return [comparison_table(comparison)]


def _trimmed(job: Job) -> list[AuditFinding]:
    if not job.n_trimmed:
        return []
    return [
        AuditFinding(
            Level.NOTE, "trimmed_ids", f"{job.n_trimmed} ids had blanks around them, now taken off"
        )
    ]
