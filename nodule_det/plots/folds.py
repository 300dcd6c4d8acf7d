"""How much the folds of a cross-validation differ: the pAUC of each beside the pooled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nodule_det.analysis import Froc
from nodule_det.plots.style import BLUE, SKY, save_png, soften
from nodule_det.progress import counted


def save_folds(folds: Sequence[Mapping[str, Any]], pooled: Froc, path: Path) -> None:
    """Draw the pAUC of each fold with its 95% CI, and the pooled one as a line with its band.

    Args:
        folds: For each its ``fold``, ``pauc`` (None where undefined) and ``pauc_interval``.
        pooled: Figures of all folds together.
        path: PNG to write.
    """
    figure = Figure(figsize=(5.6, 0.9 + 0.35 * len(folds)), layout="constrained")
    ax = figure.subplots()
    if pooled.pauc is not None and pooled.pauc_interval is not None:
        ax.axvspan(*pooled.pauc_interval, color=BLUE, alpha=0.15, lw=0, label="pooled 95% CI")
        ax.axvline(pooled.pauc, color=BLUE, lw=1.5, label=f"pooled {pooled.pauc:.3f}")
        ax.legend(loc="lower left", fontsize=8, frameon=False)
    for row, fold in enumerate(folds):
        if fold["pauc"] is not None and fold["pauc_interval"] is not None:
            low, high = fold["pauc_interval"]
            ax.plot([low, high], [row, row], color=SKY, lw=2)
            ax.plot(fold["pauc"], row, "o", color=SKY)
    names = [f"fold {fold['fold']} ({counted(fold['n_lesions'], 'lesion')})" for fold in folds]
    ax.set_yticks(range(len(folds)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("pAUC up to 5 false positives per scan, with 95% CI")
    soften(ax)
    save_png(figure, path)
