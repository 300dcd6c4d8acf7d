"""Whether calibrated scores mean what they say: predicted probability against observed share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.plots.style import BLUE, save_png, soften
from nodule_det.progress import counted

BINS = 10


def reliability(probability: FloatArray, is_true: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Group candidates by predicted probability, as many in each group.

    Args:
        probability: (n,) calibrated scores.
        is_true: (n,) whether the candidate is a true positive.

    Returns:
        Mean probability and share of true positives of each of at most ``BINS`` groups.
    """
    order = np.argsort(probability, kind="stable")
    groups = np.array_split(order, min(BINS, len(order)))
    means = [(probability[g].mean(), is_true[g].mean()) for g in groups if len(g)]
    predicted, observed = np.array(means, np.float64).reshape(-1, 2).T
    return predicted, observed


def save_reliability(probability: FloatArray, is_true: BoolArray, path: Path) -> None:
    """Draw the reliability of calibrated scores as a PNG."""
    predicted, observed = reliability(probability, is_true)
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--", label="perfectly calibrated")
    ax.plot(predicted, observed, "o-", color=BLUE, label=counted(len(probability), "candidate"))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("calibrated probability")
    ax.set_ylabel("share of true positives")
    ax.legend(loc="upper left", fontsize=8, frameon=False)
    soften(ax)
    save_png(figure, path)
