"""How a training went: loss, learning rate and validation pAUC, against steps and hours.

metrics.jsonl ──save_training()──▶ training.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nodule_det.plots.style import BLUE, ORANGE, SKY, save_png, soften

Row = Mapping[str, Any]


def save_training(rows: Sequence[Row], path: Path) -> None:
    """Draw the curves of a run, as far as it has come.

    Args:
        rows: Lines of ``metrics.jsonl``; those that lack a number are left out.
        path: PNG to write.
    """
    figure = Figure(figsize=(7.2, 6.6), layout="constrained")
    loss, rate, value = figure.subplots(3, 1, sharex=True)
    train = _points(rows, "train", ("step", "loss", "lr", "seconds"))
    loss.plot(train["step"], train["loss"], color=SKY, lw=1.2)
    loss.set_ylabel("training loss")
    if (train["loss"] > 0).any():
        loss.set_yscale("log")
    rate.plot(train["step"], train["lr"], color=ORANGE, lw=1.2)
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", scilimits=(-2, 3))
    _draw_pauc(value, rows)
    value.set_xlabel("optimiser steps")
    value.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (loss, rate, value):
        soften(ax)
    _add_hours(loss, rows)
    save_png(figure, path)


def _points(rows: Sequence[Row], kind: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Collect the lines of a kind as columns, in the order of their steps."""
    known = [
        [float(row[name]) for name in names]
        for row in rows
        if row.get("kind") == kind and all(_is_number(row.get(name)) for name in names)
    ]
    table = np.array(sorted(known), np.float64).reshape(-1, len(names))
    return dict(zip(names, table.T, strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw_pauc(ax: Axes, rows: Sequence[Row]) -> None:
    known = _points(rows, "validation", ("step", "pauc"))
    for row in rows:
        interval = row.get("pauc_interval")
        if row.get("kind") == "validation" and isinstance(interval, list) and len(interval) == 2:
            ax.plot([row["step"]] * 2, interval, color=BLUE, lw=1.5, alpha=0.4)
    ax.plot(known["step"], known["pauc"], "o-", color=BLUE, ms=4, lw=1.2)
    if len(known["pauc"]):
        best = int(known["pauc"].argmax())
        label = f"best {known['pauc'][best]:.3f} at step {known['step'][best]:.0f}"
        ax.plot(known["step"][best], known["pauc"][best], "o", color=BLUE, ms=8, mfc="none",
                label=label)  # fmt: skip
        ax.legend(loc="lower right", fontsize=8, frameon=False)
    ax.set_ylim(0, 1)
    ax.set_ylabel("validation pAUC\nwith 95% CI")


def _add_hours(ax: Axes, rows: Sequence[Row]) -> None:
    """Add hours of training and validation as a second axis on top."""
    both = [_points(rows, kind, ("step", "seconds")) for kind in ("train", "validation")]
    steps, seconds = (np.concatenate([b[name] for b in both]) for name in ("step", "seconds"))
    if len(np.unique(steps)) < 2 or seconds.max() <= 0:
        return
    ax.set_xlim(0, steps.max())  # outside it there is no time
    order = np.argsort(steps, kind="stable")
    steps = np.concatenate([[0.0], steps[order]])
    hours = np.maximum.accumulate(np.concatenate([[0.0], seconds[order]])) / 3600
    # ticks at round hours would overlap where a validation takes hours and no step
    axis = ax.secondary_xaxis("top")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.xaxis.set_major_formatter(lambda step, _: f"{np.interp(step, steps, hours):.2g}")
    axis.set_xlabel("hours, with validations")
