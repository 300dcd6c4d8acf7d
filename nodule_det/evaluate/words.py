"""The figures and the audit as aligned lines for a terminal.

Froc ──figures_table()──▶ lines
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from nodule_det.analysis import AuditFinding, ChallengeFigures, Comparison, Froc, Jafroc
from nodule_det.progress import counted, of_total

LISTED = 3
"""Rows of a finding that are printed."""

CI = "95% CI"
FEW = "too few scans"

Row = tuple[str, ...]


def figures_table(froc: Froc, merits: dict[str, Jafroc] | None = None, rule: str = "") -> str:
    """Format what was evaluated, then every figure with its 95% CI and threshold.

    Args:
        froc: The figures.
        merits: Figures of merit to add, by name.
        rule: What counts as a hit, where it is not the distance to the centre.
    """
    patients = "" if froc.n_patients is None else f" of {counted(froc.n_patients, 'patient')}"
    count = (
        f"{of_total(froc.n_found, froc.n_lesions, 'lesion')} detected in "
        f"{counted(froc.n_scans, 'scan')}{patients}\n{counted(froc.n_candidates, 'candidate')}: "
        f"{counted(froc.n_false_positives, 'false positive')}, "
        f"{counted(froc.n_repeated, 'duplicate detection')}, {froc.n_excluded} on excluded findings"
    )
    if rule:
        count += f"\n{rule}"
    if froc.pauc is None:
        return f"{count}\nno figures: {froc.reason}"
    rows = [("", "", CI, "step-wise", "threshold"), *_rows(froc)]
    if not _ties_matter(froc):
        rows = [(*row[:3], row[4]) for row in rows]
    reasons = []
    for name, merit in (merits or {}).items():
        if merit.reason:
            reasons.append(f"no {name}: {merit.reason}")
            continue
        interval = span(merit.interval, merit.few_scans)
        rows.append((name, _number(merit.figure), interval, *[""] * (len(rows[0]) - 3)))
    few = [] if froc.few_scans is None else ["", f"{froc.few_scans}: read these figures as counts"]
    return "\n".join([count, "", *aligned(rows), *reasons, *few])


def strata_table(column: str, strata: dict[str, Froc]) -> str:
    """Format the figures of each group of lesions."""
    rows: list[Row] = [(f"by {column}", "pAUC", CI, "detected")]
    for label, froc in strata.items():
        detected = f"{froc.n_found} of {froc.n_lesions}"
        interval = span(froc.pauc_interval, froc.few_scans)
        rows.append((label, _number(froc.pauc), interval, detected))
    return "\n".join([*aligned(rows), "all groups share all false positives"])


def comparison_table(comparison: Comparison) -> str:
    """Format how the other detector differs."""
    rows: list[Row] = [("other - this", "", CI, "p")]
    lines = []
    for name, figure in (("pAUC", comparison.pauc), ("CPM", comparison.cpm)):
        label = f"{name} {figure.first:.4f} -> {figure.second:.4f}"
        interval = span(figure.interval, comparison.few_scans)
        rows.append((label, f"{figure.difference:+.4f}", interval, f"{figure.p_value:.4f}"))
        if figure.cases_needed is not None:
            between = figure.cases_needed_interval
            ci = "" if between is None else f" ({CI} {between[0]} to {between[1]})"
            lines.append(
                f"to detect a difference of {comparison.detect:g} in {name} (5% level, 80% "
                f"power): {figure.cases_needed} scans{ci} like these {comparison.n_cases}"
            )
    return "\n".join([*aligned(rows), *lines])


def challenge_table(figures: ChallengeFigures) -> str:
    """Format what the challenge reports."""
    rows: list[Row] = [("as LUNA16", "", CI, "mean of resamples")]
    read = zip(
        figures.rates, figures.sensitivity, figures.low, figures.high, figures.mean, strict=True
    )
    for rate, sensitivity, low, high, mean in read:
        name = f"sensitivity at {Fraction(rate)} FP/scan"
        rows.append((name, _number(sensitivity), span((low, high)), _number(mean)))
    rows.append(("CPM", _number(figures.cpm), "", _number(figures.cpm_of_means)))
    last = f"{counted(figures.n_capped, 'candidate')} discarded: over 100 per scan"
    return "\n".join([*aligned(rows), last])


def audit_lines(findings: list[AuditFinding]) -> str:
    """Format what the audit noticed, with the first scans, lesions or candidates of each."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value + ':':<9}{finding.message}")
        lines += [f"{'':11}{_entry(row)}" for row in finding.rows[:LISTED]]
        if len(finding.rows) > LISTED:
            lines.append(f"{'':11}... more in froc.json")
    return "\n".join(lines)


def _entry(row: dict[str, Any]) -> str:
    words = [str(row["case"])]
    if "world_mm" in row:
        words.append("at " + " ".join(f"{v:.1f}" for v in row["world_mm"]) + " mm")
    if row.get("diameter_mm") is not None:
        words.append(f"diameter {row['diameter_mm']:.1f} mm")
    if row.get("score") is not None:
        words.append(f"score {row['score']:.4g}")
    return "  ".join(words)


def _rows(froc: Froc) -> list[Row]:
    def row(name: str, value: float | None, interval: Any, step: float | None, at: str) -> Row:
        return (name, _number(value), span(interval, froc.few_scans), _number(step), at)

    area = f"pAUC, 0-{froc.upper:g} FP/scan"
    rows = [
        row(area, froc.pauc, froc.pauc_interval, froc.pauc_step, ""),
        row("CPM", froc.cpm, froc.cpm_interval, froc.cpm_step, ""),
    ]
    for rate, value, interval, step, threshold in zip(
        froc.rates,
        froc.sensitivity,
        froc.sensitivity_interval,
        froc.sensitivity_step,
        froc.threshold,
        strict=True,
    ):
        at = "none" if threshold is None else f"{threshold:.4g}"
        rows.append(row(f"sensitivity at {Fraction(rate)} FP/scan", value, interval, step, at))
    return rows


def _ties_matter(froc: Froc) -> bool:
    """Return whether a figure differs from what a threshold can reach."""
    pairs = [(froc.pauc, froc.pauc_step), (froc.cpm, froc.cpm_step)]
    pairs += zip(froc.sensitivity, froc.sensitivity_step, strict=True)
    return any(_number(one) != _number(other) for one, other in pairs)


def aligned(rows: Sequence[Row]) -> list[str]:
    """Align the first column to the left and all others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def span(interval: tuple[float, float] | None, few_scans: str | None = None) -> str:
    """Format a CI, or say that there are too few scans for any."""
    if interval is None:
        return ""
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if few_scans is None else FEW


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
