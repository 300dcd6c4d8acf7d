"""The figures and the audit as aligned lines for a terminal.

Froc ──figures_table()──▶ lines
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from nodule_det.analysis import AuditFinding, ChallengeFigures, Comparison, Froc, Jafroc

LISTED = 3
"""Rows of a finding that are printed."""

Row = tuple[str, str, str, str]


def figures_table(froc: Froc, merit: Jafroc) -> str:
    """Write what was evaluated, then every figure with its interval and threshold."""
    count = (
        f"{froc.n_found} of {froc.n_lesions} lesions hit in {froc.n_scans} scans by "
        f"{froc.n_candidates} candidates; {froc.n_false_positives} false positives, "
        f"{froc.n_repeated} repeated hits, {froc.n_excluded} on excluded findings"
    )
    if froc.pauc is None:
        return f"{count}\nno figures: {froc.reason}"
    jafroc = ("JAFROC", _number(merit.figure), span(merit.interval), "")
    return "\n".join([count, "", *aligned([*_rows(froc), jafroc])])


def strata_table(column: str, strata: dict[str, Froc]) -> str:
    """Write the figures of each group of lesions."""
    rows: list[Row] = [(f"by {column}", "pAUC", "95 % interval", "hit")]
    for label, froc in strata.items():
        hit = f"{froc.n_found} of {froc.n_lesions}"
        rows.append((label, _number(froc.pauc), span(froc.pauc_interval), hit))
    return "\n".join([*aligned(rows), "all groups share all false positives"])


def comparison_table(comparison: Comparison) -> str:
    """Write how the other detector differs."""
    rows: list[Row] = [("other - this", "", "95 % interval", "p")]
    lines = []
    for name, figure in (("pAUC", comparison.pauc), ("CPM", comparison.cpm)):
        label = f"{name} {figure.first:.4f} -> {figure.second:.4f}"
        p = f"{figure.p_value:.4f}"
        rows.append((label, f"{figure.difference:+.4f}", span(figure.interval), p))
        needed = figure.cases_needed
        if needed is not None:
            lines.append(
                f"a difference of {comparison.detect:g} in {name} shows (5 % level, 80 % power) in "
                f"{needed} scans like these {comparison.n_cases}"
            )
    return "\n".join([*aligned(rows), *lines])


def challenge_table(figures: ChallengeFigures) -> str:
    """Write what the challenge reports."""
    rows: list[Row] = [("as LUNA16", "", "95 % interval", "mean of resamples")]
    read = zip(
        figures.rates, figures.sensitivity, figures.low, figures.high, figures.mean, strict=True
    )
    for rate, sensitivity, low, high, mean in read:
        name = f"sensitivity at {Fraction(rate)} FP"
        rows.append((name, _number(sensitivity), span((low, high)), _number(mean)))
    rows.append(("CPM", _number(figures.cpm), "", _number(figures.cpm_of_means)))
    last = f"{figures.n_capped} candidates beyond 100 a scan were not looked at"
    return "\n".join([*aligned(rows), last])


def audit_lines(findings: list[AuditFinding]) -> str:
    """Write what the audit noticed, with the first cases, lesions or candidates of each."""
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
    if "diameter_mm" in row:
        words.append(f"diameter {row['diameter_mm']:.1f} mm")
    if row.get("score") is not None:
        words.append(f"score {row['score']:.4g}")
    return "  ".join(words)


def _rows(froc: Froc) -> list[Row]:
    rows: list[Row] = [
        ("", "", "95 % interval", "threshold"),
        (f"pAUC up to {froc.upper:g} FP", _number(froc.pauc), span(froc.pauc_interval), ""),
        ("  as steps", _number(froc.pauc_step), "", ""),
        ("CPM", _number(froc.cpm), span(froc.cpm_interval), ""),
    ]
    read = zip(froc.rates, froc.sensitivity, froc.sensitivity_interval, froc.threshold, strict=True)
    for rate, sensitivity, interval, threshold in read:
        at = "none" if threshold is None else f"{threshold:.4g}"
        name = f"sensitivity at {Fraction(rate)} FP"
        rows.append((name, _number(sensitivity), span(interval), at))
    return rows


def aligned(rows: list[Row]) -> list[str]:
    """Set rows under each other: words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}".rstrip()
        for row in rows
    ]


def span(interval: tuple[float, float] | None) -> str:
    """Write an interval."""
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
