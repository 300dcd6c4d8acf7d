"""Free-response ROC: how many lesions are found at how many false positives per scan.

    candidates + lesions ──match()──▶ Matched ──froc_curve()──▶ FrocCurve ──▶ pauc(), cpm()
                                         └────analyse()──▶ Froc: figures with intervals

Points are world millimetres, (x, y, z), LPS.  Nothing here knows about voxels, torch or files:
numpy in, numpy out, so a notebook can import it in a blink.  The exact meaning of every figure
stands in docs/froc.md.
"""

from nodule_det.analysis.audit import AuditFinding, Level, audit
from nodule_det.analysis.bootstrap import Resampled, resample
from nodule_det.analysis.comparison import Comparison, Difference, cases_needed, compare
from nodule_det.analysis.figures import Froc, analyse
from nodule_det.analysis.interval import Interval
from nodule_det.analysis.jafroc import Jafroc, jafroc, wafroc
from nodule_det.analysis.luna16 import ChallengeFigures, capped, challenge_figures
from nodule_det.analysis.merging import merge
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
    "compare",
    "diameter_labels",
    "jafroc",
    "merge",
    "resample",
    "wafroc",
]
