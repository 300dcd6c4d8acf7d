"""Figures of a study over time: the best value so far, the workers, the outcomes of trials.

list[Ended] ──draw_best()────▶ Figure    the poster's Figs. 7 and 8, of one study
list[Span] ───draw_workers()─▶ Figure
Study ────────draw_states()──▶ Figure
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from nodule_det.hpo.report.history import Doing, Ended, Span
from nodule_det.hpo.study.objective import Objective
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import TrialState
from nodule_det.plots.style import BLUE, ORANGE, PINK, RED, SKY, soften

DOING = {
    Doing.COMPLETE: BLUE,
    Doing.FAILED: RED,
    Doing.CANCELLED: ORANGE,
    Doing.WENT_ON: PINK,
    Doing.RUNNING: SKY,
    Doing.QUEUED: "#D0D0D0",
}
WITHIN = "95% CI of the best"
LANE_INCHES = 0.22
TALLEST_INCHES = 9.0
NAMED_LANES = 24
"""Largest number of workers with a tick for each."""


def draw_best(
    ended: Sequence[Ended],
    axis: Literal["jobs", "hours"],
    objective: Objective,
    now_h: float = 0.0,
) -> Figure:
    """Draw every value, the best so far, and the 95% confidence interval of the best.

    The interval is that of the observed value, from its standard error over validation cases.  A
    trial without a standard error has none.  Failed and cancelled trials are marks at the bottom.

    Args:
        ended: Trials that are over.
        axis: What the values are drawn against.
        objective: Names the values.
        now_h: End of the line of the best value, for a study that continues.
    """
    figure = Figure(figsize=(5.6, 3.9), layout="constrained")
    ax = figure.subplots()
    soften(ax)
    ax.set_xlabel("trials that have ended" if axis == "jobs" else "hours since the first trial")
    ax.set_ylabel(objective.title_with_direction)
    complete = [e for e in ended if e.trial.value is not None]
    if not complete:
        return nothing(figure, ax, "no trial is complete yet")
    x = [getattr(e, axis) for e in complete]
    values = [objective.reported(e.trial.value) for e in complete if e.trial.value is not None]
    ax.plot(x, values, "o", ms=3.2, color="#999999", label="trial")
    _mark_foot(ax, ended, axis)
    end = float(ended[-1].jobs) if axis == "jobs" else max(now_h, ended[-1].hours)
    _draw_rise(ax, complete, axis, end, objective)
    ax.set_xlim(left=0)
    figure.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False, columnspacing=1)
    return figure


def _mark_foot(ax: Axes, ended: Sequence[Ended], axis: str) -> None:
    marks = {TrialState.FAILED: ("x", RED), TrialState.CANCELLED: ("|", ORANGE)}
    for state, (mark, colour) in marks.items():
        x = [getattr(e, axis) for e in ended if e.trial.state is state]
        foot = ax.get_xaxis_transform()
        if x:
            ax.plot(x, [0.03] * len(x), mark, ms=4.5, color=colour, transform=foot, label=state)


def _draw_rise(
    ax: Axes, complete: Sequence[Ended], axis: str, end: float, objective: Objective
) -> None:
    bests = [e.best for e in complete if e.best is not None]
    x = np.array([*(getattr(e, axis) for e in complete), end])
    scores = [b.value for b in (*bests, bests[-1]) if b.value is not None]
    value = np.array([objective.reported(score) for score in scores], np.float64)
    ses = [b.value_se or 0.0 for b in (*bests, bests[-1])]
    if any(ses):
        low, high = zip(*map(objective.interval, scores, ses), strict=True)
        ax.fill_between(x, low, high, step="post", color=BLUE, alpha=0.2, lw=0, label=WITHIN)
    ax.step(x, value, where="post", color=BLUE, lw=1.8, label="best so far")


def draw_workers(spans: Sequence[Span]) -> Figure:
    """Draw when each worker was busy: one lane per worker, coloured by the outcome of its job."""
    lanes = 1 + max((s.lane for s in spans), default=0)
    height = min(TALLEST_INCHES, 1.5 + LANE_INCHES * lanes)
    figure = Figure(figsize=(11.0, height), layout="constrained")
    ax = figure.subplots()
    soften(ax)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("hours since the first trial")
    ax.set_ylabel("worker")
    if not spans:
        return nothing(figure, ax, "no job was submitted yet")
    for doing, colour in DOING.items():
        for lane in range(lanes):
            mine = [s for s in spans if (s.doing, s.lane) == (doing, lane)]
            if mine:
                bars = [(s.begin_h, s.end_h - s.begin_h) for s in mine]
                ax.broken_barh(bars, (lane + 0.6, 0.8), color=colour, ec="white", lw=0.4)
    ax.set_ylim(lanes + 0.5, 0.5)
    ax.set_xlim(0, max(s.end_h for s in spans))
    if lanes <= NAMED_LANES:
        ax.set_yticks(range(1, lanes + 1))
    seen = {s.doing for s in spans}
    patches = [Patch(color=c, label=doing.value) for doing, c in DOING.items() if doing in seen]
    figure.legend(handles=patches, loc="outside upper left", ncols=6, fontsize=8, frameon=False)
    return figure


def draw_states(study: Study) -> Figure:
    """Draw how many trials are complete, under way, failed and cancelled, by reason."""
    count = Counter(_state(t.state.value, t.reason) for t in study.own)
    names = sorted(count, key=lambda n: (list(_STATE_COLOURS).index(n[0]), -count[n]))
    figure = Figure(figsize=(5.6, 1.1 + 0.3 * max(1, len(names))), layout="constrained")
    ax = figure.subplots()
    soften(ax)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("trials")
    if not names:
        return nothing(figure, ax, "no trial was asked for yet")
    labels = [f"{state}: {reason}" if reason else state for state, reason in names]
    bars = ax.barh(labels, [count[n] for n in names], color=[_STATE_COLOURS[s] for s, _ in names])
    ax.bar_label(bars, padding=3, fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


_STATE_COLOURS = {"complete": BLUE, "pending": SKY, "failed": RED, "cancelled": ORANGE}


def _state(state: str, reason: str | None) -> tuple[str, str]:
    return state, "" if reason is None else str(reason).replace("_", " ")


def nothing(figure: Figure, ax: Axes, why: str) -> Figure:
    """Write the reason into an empty figure."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color="#555555")
    ax.set_axis_off()
    return figure
