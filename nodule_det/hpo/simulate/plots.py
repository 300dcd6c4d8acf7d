"""Best value so far of simulated studies: the poster's Figs. 7 and 8, and the numbers in them.

    list[Run] ──draw_by_strategy()──▶ Figure         one panel per strategy, as in the poster
              ──draw_by_workers()───▶ Figure         one panel per number of workers
              ──curve_rows(), summary_rows()──▶ CSV  the plotted data, and final values

The curves show the noise-free score of the best observed point, averaged over repetitions, with
one standard error on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from nodule_det.arrays import FloatArray
from nodule_det.hpo.simulate.study import Run
from nodule_det.plots.style import COLOURS, soften

Axis = Literal["jobs", "rounds", "hours"]

AXES: tuple[Axis, ...] = ("jobs", "rounds", "hours")
WORDS = {"jobs": "jobs", "rounds": "jobs / M", "hours": "simulated hours"}
"""A round is the duration of one job: the poster measures time as jobs / M."""
RAMP = colormaps["viridis"]
LIGHTEST = 0.88
"""End of the used part of the ramp: its last yellow is hard to see on white."""
POINTS = 200
PANEL_INCHES = 2.9


def draw_by_strategy(runs: Sequence[Run], axis: Axis) -> Figure:
    """Draw one panel for each strategy, one curve for each number of workers.

    Fewer workers are darker.  Random search with the fewest workers is dotted in each panel.
    """
    strategies, workers = _strategies(runs), _workers(runs)
    figure, panels = _panels(len(strategies), axis)
    random = [r for r in runs if (r.strategy, r.workers) == ("random", workers[0])]
    for panel, strategy in zip(panels, strategies, strict=True):
        for i, m in enumerate(workers):
            mine = [r for r in runs if (r.strategy, r.workers) == (strategy, m)]
            shade = RAMP(LIGHTEST * i / max(1, len(workers) - 1))
            _draw(panel, mine, axis, shade, f"M = {m}")
        if axis == "jobs" and random and strategy != "random":
            x, mean, _ = mean_curve(random, axis)
            panel.step(x, mean, where="post", color="black", lw=1, ls=":", label="random")
        panel.set_title(strategy, fontsize=10)
    _finish(figure, panels, axis)
    return figure


def draw_by_workers(runs: Sequence[Run], axis: Axis) -> Figure:
    """Draw one panel for each number of workers, one curve for each strategy."""
    strategies, workers = _strategies(runs), _workers(runs)
    figure, panels = _panels(len(workers), axis)
    for panel, m in zip(panels, workers, strict=True):
        for i, strategy in enumerate(strategies):
            mine = [r for r in runs if (r.strategy, r.workers) == (strategy, m)]
            _draw(panel, mine, axis, COLOURS[i % len(COLOURS)], strategy)
        panel.set_title(f"M = {m}", fontsize=10)
    _finish(figure, panels, axis)
    return figure


def _strategies(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.strategy for run in runs))


def _workers(runs: Sequence[Run]) -> list[int]:
    return sorted({run.workers for run in runs})


def _panels(count: int, axis: Axis) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(PANEL_INCHES * count + 0.6, 3.2), layout="constrained")
    panels = list(figure.subplots(1, count, sharey=True, squeeze=False)[0])
    for panel in panels:
        soften(panel)
        panel.set_xlabel(WORDS[axis])
        if axis != "jobs":  # workers differ by factors, and so do the times
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    return figure, panels


def _draw(panel: Axes, runs: Sequence[Run], axis: Axis, colour: Any, label: str) -> None:
    if not runs:
        return
    x, mean, error = mean_curve(runs, axis)
    x, mean, error = (v[mean > 0] for v in (x, mean, error))  # a log axis cannot start at 0
    panel.step(x, mean, where="post", color=colour, lw=1.6, label=label)
    low, high = mean - error, mean + error
    panel.fill_between(x, low, high, step="post", color=colour, alpha=0.12, lw=0)


def _finish(figure: Figure, panels: Sequence[Axes], axis: Axis) -> None:
    for panel in panels:
        if axis == "jobs":
            panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("noise-free score of the best point")
    known = [zip(*panel.get_legend_handles_labels()[::-1], strict=True) for panel in panels]
    named = {label: handle for pairs in known for label, handle in pairs}
    figure.legend(
        named.values(), named.keys(), fontsize=8, frameon=False, loc="outside right center"
    )


def mean_curve(runs: Sequence[Run], axis: Axis) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the x values, the mean over the runs, and its standard error, (k,) each.

    A curve ends at the end of its shortest run, so that the mean is always over all runs.
    """
    end = min(_places(run, axis)[-1] for run in runs)
    if axis == "hours":
        x = np.linspace(0, end, POINTS + 1)[1:]
    else:
        x = np.arange(1, round(end * (1 if axis == "jobs" else runs[0].workers)) + 1, dtype=float)
        x = x if axis == "jobs" else x / runs[0].workers
    curves = np.array([best_at(run, axis, x) for run in runs])
    n = len(runs)
    error = curves.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.zeros(len(x))
    return x, curves.mean(axis=0), np.asarray(error)


def best_at(run: Run, axis: Axis, x: FloatArray) -> FloatArray:
    """Return the noise-free score of the best point at each x; 0 before the first value."""
    places = np.array([0.0, *_places(run, axis)])
    worth = np.array([0.0, *(row.truth_of_best for row in run.rows)])
    return np.asarray(worth[np.searchsorted(places, x, side="right") - 1])


def _places(run: Run, axis: Axis) -> list[float]:
    if axis == "rounds":
        return [row.jobs / run.workers for row in run.rows]
    return [float(getattr(row, axis)) for row in run.rows]


def curve_rows(runs: Sequence[Run]) -> Iterator[list[Any]]:
    """Yield a header row, then the data of all curves."""
    yield ["strategy", "workers", "axis", "x", "mean", "standard_error", "runs"]
    for strategy in _strategies(runs):
        for m in _workers(runs):
            mine = [r for r in runs if (r.strategy, r.workers) == (strategy, m)]
            for axis in AXES if mine else ():
                for x, mean, error in zip(*mean_curve(mine, axis), strict=True):
                    numbers = [f"{v:.6g}" for v in (x, mean, error)]
                    yield [strategy, m, axis, *numbers, len(mine)]


def summary_rows(runs: Sequence[Run]) -> Iterator[list[Any]]:
    """Yield a header row, then the final score of each strategy with each number of workers.

    ``loss`` is the mean difference from its studies with the fewest workers on the same functions.
    It is paired, so differences between functions cancel.
    """
    numbers = ["worth", "worth_se", "loss", "loss_se", "hours", "node_hours"]
    yield ["strategy", "workers", "runs", *numbers]
    few = _workers(runs)[0]
    for strategy in _strategies(runs):
        ends = {(r.workers, r.repetition): r for r in runs if r.strategy == strategy}
        for m in _workers(runs):
            mine = {rep: r for (workers, rep), r in ends.items() if workers == m}
            if not mine:
                continue
            worth = [r.rows[-1].truth_of_best for r in mine.values()]
            loss = [
                ends[few, rep].rows[-1].truth_of_best - r.rows[-1].truth_of_best
                for rep, r in mine.items()
                if (few, rep) in ends
            ]
            hours = [r.rows[-1].hours for r in mine.values()]
            node_hours = [sum(row.node_hours for row in r.rows) for r in mine.values()]
            cells = [*_mean(worth), *_mean(loss), _mean(hours)[0], _mean(node_hours)[0]]
            yield [strategy, m, len(mine), *cells]


def _mean(values: Sequence[float]) -> tuple[str, str]:
    """Format the mean and standard error; empty where undefined."""
    n = len(values)
    if n == 0:
        return "", ""
    error = f"{np.std(values, ddof=1) / math.sqrt(n):.4f}" if n > 1 else ""
    return f"{np.mean(values):.4f}", error
