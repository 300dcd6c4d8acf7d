"""How optimistic the values of a study were, compared with cross-validated pAUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from nodule_det.plots.style import BLUE, ORANGE, soften


def draw_optimism(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw one line per setting.

    Args:
        rows: Each with ``trial``, ``observed``, ``pauc``, ``pauc_interval`` and ``chosen``.
    """
    figure = Figure(figsize=(6.4, 1.2 + 0.35 * len(rows)), layout="constrained")
    ax = figure.subplots()
    for y, row in enumerate(rows):
        low, high = row["pauc_interval"]
        ax.plot([low, high], [y, y], color=BLUE, lw=2)
        ax.plot(row["pauc"], y, "o", color=BLUE, label=None if y else "cross-validated")
        ax.plot(
            row["observed"], y, "o", mfc="none", mec=ORANGE, label=None if y else "in the study"
        )
    names = [f"trial {row['trial']}{' (chosen)' if row['chosen'] else ''}" for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("pAUC up to 5 false positives per scan")
    ax.legend(loc="lower left", fontsize=8, frameon=False)
    soften(ax)
    return figure
