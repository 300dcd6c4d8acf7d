"""Figures of a study over its search space: all trials at once, slices, importance.

trials ──draw_parallel()────▶ Figure
Insight ──draw_slices()─────▶ Figure    the model along each parameter, through the best trial
        └─draw_importance()─▶ Figure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from nodule_det.config.hpo import Direction
from nodule_det.hpo.report.figures import nothing
from nodule_det.hpo.report.insight import Insight, Slice
from nodule_det.hpo.space.space import Kind, Parameter, Space, Value
from nodule_det.hpo.study.objective import INTERVAL, Objective
from nodule_det.hpo.study.trial import Reason, Trial, TrialState
from nodule_det.plots.style import BLUE, ORANGE, RED, soften

MAPS = {
    Direction.maximize: colormaps["cividis_r"],
    Direction.minimize: colormaps["cividis"],
}
"""Looks alike to people with and without colour blindness (Nuñez et al. 2018).  Dark is good."""
JITTER = 0.018
"""Spread of lines through one value of a list, as a share of the axis, to keep all visible."""
MARGIN = 0.12
"""Margin above and below the values of a slice, as a share of their range."""
COLUMNS = 4
PANEL_INCHES = (2.75, 2.1)


def short_names(space: Space) -> dict[str, str]:
    """Map each parameter to the last part of its name, or to the full name if it is ambiguous."""
    last = [p.name.rpartition(".")[2] for p in space]
    return {
        p.name: word if last.count(word) == 1 else p.name
        for p, word in zip(space, last, strict=True)
    }


def place(p: Parameter, value: Value) -> float:
    """Return the position of a value on its full axis, ignoring bounds by other parameters."""
    return replace(p, at_most=None).to_unit(value, {})


def draw_parallel(space: Space, trials: Sequence[Trial], objective: Objective) -> Figure:
    """Draw each trial as a line across one axis per parameter.  The darker, the better.

    Failed trials are dotted, early-stopped ones pale, and pending ones omitted.  A line passes the
    middle of the axis of a parameter that its trial lacks.
    """
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    ax = figure.subplots()
    parameters = space.free
    shown = [t for t in trials if not t.pending and t.reason is not Reason.USER]
    if not shown or not parameters:
        return nothing(figure, ax, "no trial has ended yet")
    complete = sorted((t.value, -t.number, t) for t in shown if t.value is not None)
    ends = [objective.reported(complete[i][0]) for i in (0, -1)] if complete else [0.0, 1.0]
    spare = 0.1 * (ends[0] == ends[1])  # a single value is the best
    norm = Normalize(min(ends) - spare, max(ends) + spare)
    colours = MAPS[objective.direction]
    x = np.arange(len(parameters))
    for trial in shown:
        if trial.value is None:
            style, colour = (":", RED) if trial.state is TrialState.FAILED else ("-", "#CCCCCC")
            ax.plot(x, _line(parameters, trial), style, color=colour, lw=0.7, alpha=0.7)
    for rank, (value, _, trial) in enumerate(complete, 1):
        if rank < len(complete):
            shade = colours(norm(objective.reported(value)))
            ax.plot(x, _line(parameters, trial), color=shade, lw=0.9, alpha=0.75)
        else:
            outline = [withStroke(linewidth=6, foreground="white")]
            ax.plot(x, _line(parameters, trial), color="black", lw=2.4, path_effects=outline)
    _draw_axes(ax, space)
    if complete:
        scale = ScalarMappable(norm, colours)
        figure.colorbar(scale, ax=ax, label=objective.title, pad=0.01, aspect=30)
    return figure


def _line(parameters: Sequence[Parameter], trial: Trial) -> list[float]:
    rng = np.random.default_rng(trial.number)
    jitter = rng.uniform(-JITTER, JITTER, len(parameters))
    return [
        0.5 if p.name not in trial.params else place(p, trial.params[p.name]) + j * _listed(p)
        for p, j in zip(parameters, jitter, strict=True)
    ]


def _listed(p: Parameter) -> bool:
    return p.kind is not Kind.FLOAT


def _draw_axes(ax: Axes, space: Space) -> None:
    names = short_names(space)
    for i, p in enumerate(space.free):
        ax.axvline(i, color="#888888", lw=0.8, zorder=0)
        for value in _ticks(p):
            text = ax.text(i + 0.03, place(p, value), tick_text(value), fontsize=7, va="center")
            text.set_bbox({"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75})
            text.set_zorder(5)
    ax.set_xticks(range(len(space.free)), [names[p.name] for p in space.free], fontsize=9)
    ax.set_yticks([])
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlim(-0.1, len(space.free) - 0.7)
    ax.spines[:].set_visible(False)
    ax.tick_params(axis="x", length=0)


def _ticks(p: Parameter) -> list[Value]:
    """Return the tick values of an axis: all values of a short list, otherwise the ends."""
    choices = replace(p, at_most=None).choices({})
    if choices is None:
        return [p.low, p.high]
    return list(choices) if len(choices) <= 5 else [choices[0], choices[-1]]


def tick_text(value: Value) -> str:
    """Format a value briefly."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def draw_slices(
    insight: Insight, space: Space, trials: Sequence[Trial], objective: Objective
) -> Figure:
    """Draw the model's mean and 95% band along each parameter, through the best trial.

    Dots are the trials' own values, wherever their other parameters are; crosses at the foot are
    trials that failed.  They need not lie in the band: only the best one lies on the slice.  The
    number behind a name is how far the mean rises along the slice.
    """
    rows = -(-len(insight.slices) // COLUMNS)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * COLUMNS, height * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    names = short_names(space)
    for ax, one in zip(panels, insight.slices, strict=False):
        soften(ax)
        rise = f": {np.ptp(one.mean):.3g}" if one.values else ""
        ax.set_title(names[one.parameter.name] + rise, fontsize=9)
        ax.tick_params(labelsize=8)
        if one.values:
            _draw_slice(ax, one, insight.best, trials, objective)
        else:
            words = {"ha": "center", "va": "center", "fontsize": 8, "color": "#555555"}
            ax.text(0.5, 0.5, "absent from the best trial", transform=ax.transAxes, **words)
            ax.set_xticks([])
    for ax in panels[len(insight.slices) :]:
        ax.set_axis_off()
    seen = [t.value for t in trials if t.value is not None]
    scores = np.concatenate([seen, *(one.mean for one in insight.slices)])
    y = objective.sign * scores  # wide bands may be cut off
    panels[0].set_ylim(y.min() - MARGIN * np.ptp(y), y.max() + MARGIN * np.ptp(y))
    figure.supylabel(objective.title_with_direction, fontsize=9)
    return figure


def _draw_slice(
    ax: Axes, one: Slice, best: Trial, trials: Sequence[Trial], objective: Objective
) -> None:
    p = one.parameter
    x = _axis(p, one.values)
    mean = objective.sign * one.mean
    low, high = mean - INTERVAL * one.sd, mean + INTERVAL * one.sd
    if p.kind is Kind.FLOAT or len(one.values) > 6:
        ax.fill_between(x, low, high, color=BLUE, alpha=0.2, lw=0)
        ax.plot(x, mean, color=BLUE, lw=1.6)
    else:
        errors = np.stack([mean - low, high - mean])
        ax.errorbar(x, mean, errors, fmt="o", ms=5, color=BLUE, elinewidth=5, ecolor="#0072B255")
    with_value = [t for t in trials if t.value is not None and p.name in t.params]
    seen = _axis(p, [t.params[p.name] for t in with_value])
    values = [objective.reported(t.value) for t in with_value if t.value is not None]
    ax.plot(seen, values, ".", ms=3, color="#999999", zorder=1)
    failed = [t for t in trials if t.state is TrialState.FAILED and p.name in t.params]
    foot = ax.get_xaxis_transform()
    crosses = _axis(p, [t.params[p.name] for t in failed])
    ax.plot(crosses, [0.03] * len(failed), "x", ms=3.5, color=RED, transform=foot)
    here = _axis(p, [best.params[p.name]])
    ax.axvline(here[0], color=ORANGE, lw=1.2, ls="--", zorder=1)
    if best.value is not None:
        ax.plot(
            here,
            [objective.reported(best.value)],
            "D",
            ms=4,
            color=ORANGE,
            mec="black",
            mew=0.5,
            zorder=6,
        )
    _name_ticks(ax, p, one.values)


def _axis(p: Parameter, values: Sequence[Value]) -> list[float]:
    """Return axis positions: numbers unchanged, list values by their index."""
    if p.kind in (Kind.FLOAT, Kind.INT):
        return [float(v) for v in values]
    return [float(p.values.index(v)) for v in values]


def _name_ticks(ax: Axes, p: Parameter, values: Sequence[Value]) -> None:
    if p.kind not in (Kind.FLOAT, Kind.INT):
        ax.set_xticks(range(len(p.values)), [tick_text(v) for v in p.values])
        ax.set_xlim(-0.5, len(p.values) - 0.5)
    elif p.log:
        ax.set_xscale("log")
    elif len(values) <= 6:
        ax.set_xticks([float(v) for v in values])


def draw_importance(insight: Insight, space: Space) -> Figure:
    """Draw the total effect of each parameter, with its range over models."""
    rows = insight.importance[::-1]
    figure = Figure(figsize=(5.6, 1.1 + 0.3 * len(rows)), layout="constrained")
    ax = figure.subplots()
    soften(ax)
    ax.grid(visible=False, axis="y")
    names = short_names(space)
    total = np.array([r.total for r in rows])
    whisker = np.stack([total - [r.low for r in rows], [r.high for r in rows] - total])
    whisker = np.maximum(whisker, 0.0)  # rounding errors may be negative
    labels = [names[r.name] for r in rows]
    ax.barh(labels, total, xerr=whisker, color=BLUE, ecolor="#555555", capsize=2)
    ax.set_xlabel("total effect (share of the model's variance)")
    ax.set_xlim(left=0)
    return figure
