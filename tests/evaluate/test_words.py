"""Figures as text: aligned, with a 95% CI, and in words where a number would mislead."""

import re

from nodule_det.analysis import analyse, compare, jafroc
from nodule_det.analysis.audit import AuditFinding, Level
from nodule_det.evaluate.words import (
    aligned,
    audit_lines,
    comparison_table,
    figures_table,
    span,
    strata_table,
)
from tests.analysis.froc_jobs import matched

FOUND = matched([(k, 0.9) for k in range(8)], [(k, 0.5) for k in range(6)], n_cases=10)
TIED = matched([(k, 0.5) for k in range(8)], [(k, 0.5) for k in range(6)], n_cases=10)


def cells(text):
    return {row[0]: row[1:] for row in (re.split(r" {2,}", line) for line in text.splitlines())}


def test_figures_have_their_ci_and_threshold():
    rows = cells(figures_table(analyse(FOUND, bootstrap=50), {"JAFROC": jafroc(FOUND)}))
    assert rows["pAUC, 0-5 FP/scan"][0] == "1.0000"
    assert re.fullmatch(r"0\.\d{4} to 1\.0000", rows["pAUC, 0-5 FP/scan"][1])
    assert rows["sensitivity at 1/8 FP/scan"][2] == "0.9"
    assert rows["JAFROC"][0] == "1.0000"


def test_step_wise_figures_are_shown_where_ties_matter():
    assert "step-wise" not in figures_table(analyse(FOUND, bootstrap=20))
    rows = cells(figures_table(analyse(TIED, bootstrap=20), {"JAFROC": jafroc(TIED)}))
    # All 8 lesions tie with all 0.6 false positives per scan.
    assert rows["sensitivity at 1/8 FP/scan"][::2] == ["0.2083", "0.0000"]
    assert rows["pAUC, 0-5 FP/scan"][::2] == ["0.9400", "0.8800"]


def test_too_few_scans_are_said_in_words():
    few = matched([(0, 0.9)], [], n_cases=2)
    froc = analyse(few, bootstrap=20)
    text = figures_table(froc, {"JAFROC": jafroc(few, bootstrap=20)})
    assert "a 95% CI needs at least 5 scans, and there are 2" in text
    assert " to " not in text.replace("0 to", "")
    assert "too few scans" in strata_table("size", {"small": froc})
    assert "too few scans" in comparison_table(compare(few, few, bootstrap=20, permutations=2))


def test_a_missing_figure_of_merit_has_its_reason():
    all_ill = matched([(0, 0.9)], [])
    text = figures_table(analyse(all_ill, bootstrap=20), {"JAFROC": jafroc(all_ill)})
    assert "no JAFROC: there is no scan without lesions among 1 scan" in text.splitlines()


def test_patients_are_counted():
    patients = {case: "P" for case in FOUND.cases.tolist()}
    assert figures_table(analyse(FOUND, bootstrap=20, patients=patients)).startswith(
        "8 of 8 lesions detected in 10 scans of 1 patient\n"
    )


def test_a_comparison_says_how_many_scans_it_takes():
    other = matched([(k, None if k < 3 else 0.9) for k in range(8)], [], n_cases=10)
    text = comparison_table(compare(FOUND, other, bootstrap=50, permutations=20))
    found = re.search(
        r"in pAUC \(5% level, 80% power\): (\d+) scans \(95% CI (\d+) to (\d+)\)", text
    )
    least, most = int(found[2]), int(found[3])
    assert least < int(found[1]) < most


def test_columns_are_aligned():
    assert aligned([("a", "1"), ("bcd", "10")]) == ["a     1", "bcd  10"]


def test_an_interval_is_two_numbers_or_words():
    assert span((0.1, 0.25)) == "0.1000 to 0.2500"
    assert span((0.1, 0.25), "a sentence") == "too few scans"
    assert span(None) == ""


def test_three_rows_of_a_finding_are_printed():
    rows = tuple({"case": f"s{k}", "diameter_mm": None} for k in range(5))
    lines = audit_lines([AuditFinding(Level.WARNING, "odd", "odd", rows)]).splitlines()
    assert lines[0] == "warning: odd"
    assert lines[1].strip() == "s0"
    assert lines[-1].strip() == "... more in froc.json"
    assert len(lines) == 5
