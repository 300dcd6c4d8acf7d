"""How optimistic the values of a study were, compared with cross-validated pAUC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_det.plots.style import BLUE, GREEN, ORANGE, soften


def draw_optimism(
    rows: Sequence[Mapping[str, Any]], test: Mapping[str, Any] | None = None
) -> Figure:
    """Draw one line per setting.

    Args:
        rows: Each with ``trial``, ``observed``, ``pauc``, ``pauc_interval`` and ``chosen``.
        test: ``pauc``, ``pauc_interval`` and ``few_scans`` of the chosen model on the test
            set, if there is one.
    """
    figure = Figure(figsize=(7.2, 1.4 + 0.4 * len(rows)), layout="constrained")
    ax = figure.subplots()
    for y, row in enumerate(rows):
        low, high = row["pauc_interval"]
        ax.plot([low, high], [y, y], color=BLUE, lw=2)
        ax.plot(row["pauc"], y, "o", color=BLUE, label=None if y else "cross-validated")
        ax.plot(
            row["observed"], y, "o", mfc="none", mec=ORANGE, label=None if y else "in the study"
        )
        if row["chosen"] and test is not None:
            _draw_test(ax, y + 0.25, test)
    names = [f"trial {row['trial']}{' (chosen)' if row['chosen'] else ''}" for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel("pAUC up to 5 false positives per scan")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    soften(ax)
    return figure


def _draw_test(ax: Axes, y: float, test: Mapping[str, Any]) -> None:
    """Draw the figure of the test set below the row of the chosen setting."""
    if not test["few_scans"]:
        ax.plot(test["pauc_interval"], [y, y], color=GREEN, lw=2)
    ax.plot(test["pauc"], y, "D", color=GREEN, label="test, chosen model")
