"""FROC figures of any detector: the command ``evaluate``, and the function of the same name.

CSV files ──python -m nodule_det.evaluate──▶ table, froc.json, froc_curve.csv, pictures
DataFrames, dicts, paths ──evaluate()──▶ Evaluation: unpacks, .plot(ax), .to_frame()
"""

from nodule_det.evaluate.api import Evaluation, evaluate
from nodule_det.evaluate.hits import Boxes, Masks

__all__ = ["Boxes", "Evaluation", "Masks", "evaluate"]
