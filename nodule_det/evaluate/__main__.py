"""``python -m nodule_det.evaluate``: FROC figures of any detector whose candidates are a CSV.

CSV files ──read_job()──▶ match() ──analyse()──▶ froc.json, froc_curve.csv, froc.png/.svg/.pdf
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nodule_det.cli import command
from nodule_det.config.evaluate import Compat, EvaluateConfig
from nodule_det.evaluate.reading import Job, read_job
from nodule_det.evaluate.words import audit_lines, challenge_table, figures_table
from nodule_det.froc import (
    AuditFinding,
    Froc,
    Interval,
    Level,
    analyse,
    audit,
    capped,
    challenge_figures,
    match,
)
from nodule_det.runs import write_json
from nodule_det.tables import write_table


@command("evaluate", EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Evaluate, print one table, and leave the files."""
    job = read_job(
        Path(config.candidates),
        Path(config.annotations),
        Path(config.scans),
        Path(config.excluded) if config.excluded else None,
    )
    looked_at = job.candidates
    if config.compat is Compat.luna16:
        looked_at = job.candidates.take(capped(job.candidates))
    matched = match(
        job.cases,
        job.lesions,
        looked_at,
        job.excluded,
        drop_unknown=config.drop_unknown,
        drop_nan=config.drop_nan,
    )
    froc = analyse(
        matched,
        upper=config.upper,
        bootstrap=config.bootstrap,
        seed=config.seed,
        interval=Interval(config.interval.value),
    )
    print(figures_table(froc))
    record = froc.as_dict()
    if config.compat is Compat.luna16 and matched.n_lesions:
        n_capped = len(job.candidates) - len(looked_at)
        challenge = challenge_figures(
            matched, bootstrap=config.bootstrap, seed=config.seed, n_capped=n_capped
        )
        print(f"\n{challenge_table(challenge)}")
        record["luna16"] = challenge.as_dict()
    findings = audit(job.lesions, looked_at, job.excluded, matched) + _trimmed(job)
    print(f"\n{audit_lines(findings)}")
    record["audit"] = [finding.as_dict() for finding in findings]
    _write(Path(config.out), froc, record, log_x=config.log_x)
    print(f"\nwritten  {Path(config.out) / 'froc.json'}, froc_curve.csv, froc.png, .svg, .pdf")


def _trimmed(job: Job) -> list[AuditFinding]:
    if not job.n_trimmed:
        return []
    return [
        AuditFinding(
            Level.NOTE, "trimmed_ids", f"{job.n_trimmed} ids had blanks around them, now taken off"
        )
    ]


def _write(out: Path, froc: Froc, record: dict[str, Any], *, log_x: bool) -> None:
    from nodule_det.figures import save_curve

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "froc.json", record)
    rows = zip(froc.fp_per_scan, froc.curve_sensitivity, froc.curve_threshold, strict=True)
    write_table(
        out / "froc_curve.csv",
        ("fp_per_scan", "sensitivity", "threshold"),
        ((f, s, "" if t is None else t) for f, s, t in rows),
    )
    for suffix in ("png", "svg", "pdf"):
        save_curve(froc, out / f"froc.{suffix}", log_x=log_x)


if __name__ == "__main__":
    main()
