"""Free-response ROC: how many lesions are found at how many false positives per scan.

    candidates + lesions ──match()──▶ Matched ──froc_curve()──▶ FrocCurve ──▶ pauc(), cpm()
                                         └────analyse()──▶ Froc: figures with intervals

Points are world millimetres, (x, y, z), LPS.  Nothing here knows about voxels, torch or files:
numpy in, numpy out, so a notebook can import it in a blink.  The exact meaning of every figure
stands in docs/froc.md.
"""

from nodule_det.froc.analysis import Froc, analyse
from nodule_det.froc.audit import AuditFinding, Level, audit
from nodule_det.froc.bootstrap import Resampled, resample
from nodule_det.froc.comparison import Comparison, Difference, cases_needed, compare
from nodule_det.froc.curve import (
    CPM_RATES,
    UPPER,
    FrocCurve,
    cpm,
    froc_curve,
    pauc,
    pauc_step,
    sensitivity_at,
    threshold_at,
)
from nodule_det.froc.interval import Interval
from nodule_det.froc.jafroc import Jafroc, jafroc
from nodule_det.froc.luna16 import ChallengeFigures, capped, challenge_figures
from nodule_det.froc.matching import EXCLUDED_MM, MISSED, Matched, match
from nodule_det.froc.merging import merge
from nodule_det.froc.records import NO_LESIONS, Candidates, Lesions
from nodule_det.froc.strata import analyse_strata, diameter_labels

__all__ = [
    "CPM_RATES",
    "EXCLUDED_MM",
    "MISSED",
    "NO_LESIONS",
    "UPPER",
    "AuditFinding",
    "Candidates",
    "ChallengeFigures",
    "Comparison",
    "Difference",
    "Froc",
    "FrocCurve",
    "Interval",
    "Jafroc",
    "Lesions",
    "Level",
    "Matched",
    "Resampled",
    "analyse",
    "analyse_strata",
    "audit",
    "capped",
    "cases_needed",
    "challenge_figures",
    "compare",
    "cpm",
    "diameter_labels",
    "froc_curve",
    "jafroc",
    "match",
    "merge",
    "pauc",
    "pauc_step",
    "resample",
    "sensitivity_at",
    "threshold_at",
]
