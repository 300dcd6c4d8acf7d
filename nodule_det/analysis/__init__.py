"""FROC figures with 95% CIs, comparisons, strata, and the audit of their input.

    Matched ──analyse()──▶ Froc: figures with 95% CIs
    Matched, Matched ──compare()──▶ Comparison

NumPy and SciPy only, so a notebook imports it at once.  docs/froc.md defines every figure.
"""

from nodule_det.analysis.audit import AuditFinding, Level, audit
from nodule_det.analysis.bootstrap import Resampled, resample
from nodule_det.analysis.comparison import (
    Comparison,
    Difference,
    cases_needed,
    common_scans,
    compare,
)
from nodule_det.analysis.figures import Froc, analyse
from nodule_det.analysis.hits import mask_iou_rules, mask_rules, overlap_rules
from nodule_det.analysis.interval import Interval
from nodule_det.analysis.jafroc import Jafroc, jafroc, wafroc
from nodule_det.analysis.luna16 import ChallengeFigures, capped, challenge_figures
from nodule_det.analysis.merging import keep_cases, merge
from nodule_det.analysis.strata import analyse_strata, diameter_labels

__all__ = [
    "AuditFinding",
    "ChallengeFigures",
    "Comparison",
    "Difference",
    "Froc",
    "Interval",
    "Jafroc",
    "Level",
    "Resampled",
    "analyse",
    "analyse_strata",
    "audit",
    "capped",
    "cases_needed",
    "challenge_figures",
    "common_scans",
    "compare",
    "diameter_labels",
    "jafroc",
    "keep_cases",
    "mask_iou_rules",
    "mask_rules",
    "merge",
    "overlap_rules",
    "resample",
    "wafroc",
]
