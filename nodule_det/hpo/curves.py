"""Best value so far of simulated studies, against jobs and against time: the poster's Figs. 7, 8.

    list[Run] ──save_curves()──▶ .png

Drawn is what the best observed point is worth without noise, in the mean over repetitions, with
one standard error to both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nodule_det.hpo.simulation import Run
from nodule_det.runs import replacing

FloatArray = NDArray[np.float64]
Axis = Literal["jobs", "hours"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""That colour-blind people tell apart (Okabe and Ito 2008); one for each strategy."""
POINTS = 200
PANEL_INCHES = 2.6


def save_curves(runs: Sequence[Run], axis: Axis, path: Path) -> None:
    """Draw one panel for each number of workers, one curve for each strategy, as a PNG."""
    with replacing(path) as temporary:
        draw_curves(runs, axis).savefig(temporary, format="png", dpi=150)


def draw_curves(runs: Sequence[Run], axis: Axis) -> Figure:
    """Draw the panels into a figure."""
    workers = sorted({run.workers for run in runs})
    strategies = list(dict.fromkeys(run.strategy for run in runs))
    size = (PANEL_INCHES * len(workers) + 0.6, 3.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(workers), sharey=True, squeeze=False)[0]
    for panel, m in zip(panels, workers, strict=True):
        for strategy, colour in zip(strategies, COLOURS, strict=False):
            mine = [r for r in runs if (r.workers, r.strategy) == (m, strategy)]
            x, mean, error = mean_curve(mine, axis)
            panel.step(x, mean, where="post", color=colour, lw=1.6, label=strategy)
            panel.fill_between(x, mean - error, mean + error, step="post", color=colour, alpha=0.15)
        panel.set_title(f"M = {m}", fontsize=10)
        panel.set_xlabel(axis if axis == "jobs" else "simulated hours")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.25, lw=0.6)
    panels[0].set_ylabel("worth of the best point")
    panels[0].legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def mean_curve(runs: Sequence[Run], axis: Axis) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give places, mean over the runs, and standard error of it, (POINTS,) each.

    A curve ends where the first of its runs does, so that the mean is always over all of them.
    """
    end = min(getattr(run.rows[-1], axis) for run in runs)
    x = np.linspace(0, end, POINTS)
    curves = np.array([best_at(run, axis, x) for run in runs])
    error = curves.std(axis=0, ddof=1) / len(runs) ** 0.5 if len(runs) > 1 else np.zeros(POINTS)
    return x, curves.mean(axis=0), np.asarray(error)


def best_at(run: Run, axis: Axis, x: FloatArray) -> FloatArray:
    """Give the worth of the best point at places of an axis; 0 before the first value."""
    places = [0.0, *(float(getattr(row, axis)) for row in run.rows)]
    worth = np.array([0.0, *(row.truth_of_best for row in run.rows)])
    return np.asarray(worth[np.searchsorted(places, x, side="right") - 1])
