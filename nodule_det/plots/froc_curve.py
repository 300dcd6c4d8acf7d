"""Draw the FROC curve for a run folder, a paper (PDF, SVG) or an HTML page.

    Froc ──save_curve()──▶ .png, .svg, .pdf
         └─curve_svg()───▶ text to put into a page

Drawn without pyplot, so nothing depends on a display or on what was drawn before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_det.analysis import Froc
from nodule_det.arrays import FloatArray
from nodule_det.errors import ConfigError
from nodule_det.files import replacing
from nodule_det.plots.style import BLUE, ORANGE, as_svg

CURVE, AREA = BLUE, ORANGE
"""The curve is a line and the area a pale background, so the figure also works in grey."""

FURTHEST = 8.0
"""False positives per scan at the right edge: the last rate of LUNA16."""

FIRST_LOG = 1 / 8
"""Left edge of the logarithmic axis: the first rate of LUNA16."""

TOP = 1.005
"""Sensitivity at the top edge: a line at 1 is drawn whole."""

FORMATS = (".png", ".svg", ".pdf")

# Keep text as text in SVG and PDF, and make equal figures produce equal files.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "nodule_det", "pdf.fonttype": 42}
NO_DATE = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def save_curve(froc: Froc, path: Path) -> None:
    """Draw the curve with its 95% CI; the format follows from the suffix.

    Two panels: the axis that papers use, 1/8 to 8 false positives per scan on a log2 scale, and a
    linear one up to the limit of the partial area, where areas are what they seem.

    Args:
        froc: The curve to draw.
        path: File to write: .png, .svg or .pdf.

    Raises:
        ConfigError: If the suffix is not one of these.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path} must end in {', '.join(FORMATS)}: a figure has no other format")
    with replacing(path) as temporary, rc_context(STYLE):
        draw_curve(froc).savefig(
            temporary, format=path.suffix[1:], dpi=150, metadata=NO_DATE[path.suffix]
        )


@dataclass(frozen=True)
class CurveSvg:
    """A curve for an HTML page, on which a script can mark points.

    Attributes:
        svg: The ``<svg>`` element.
        box: Left, top, width and height of the axes, in its user units.  Sensitivity runs from 0 at
            the bottom to ``TOP`` at the top.
        rates: False positives per scan at the left and right edge, on a logarithmic axis.
    """

    svg: str
    box: tuple[float, float, float, float]
    rates: tuple[float, float]


def curve_svg(froc: Froc) -> CurveSvg:
    """Draw the first panel, with the log2 axis, for an HTML page."""
    figure = draw_curve(froc, panels=1)
    svg = as_svg(figure, "froc")  # settles the layout
    area = figure.axes[0].get_position()
    width, height = 72 * figure.get_size_inches()  # an SVG of Matplotlib has 72 units an inch
    box = (area.x0 * width, (1 - area.y1) * height, area.width * width, area.height * height)
    return CurveSvg(
        svg,
        tuple(round(float(v), 3) for v in box),  # type: ignore[arg-type]
        (FIRST_LOG, FURTHEST),
    )


def draw_curve(froc: Froc, *, panels: int = 2) -> Figure:
    """Draw into a figure of its own: the log2 axis, and beside it the linear one.

    The dots are the seven rates of the CPM.  Shaded on the linear axis is the partial area.
    """
    figure = Figure(figsize=(0.8 + 4.8 * panels, 4.2), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if froc.pauc is None:
        for ax, set_axis in zip(axes, (_set_log, _set_linear), strict=False):
            set_axis(ax, froc.upper)
            ax.text(0.5, 0.5, str(froc.reason), transform=ax.transAxes, ha="center", wrap=True)
        return figure
    for ax, set_axis in zip(axes, (_set_log, _set_linear), strict=False):
        _draw_panel(ax, froc)
        set_axis(ax, froc.upper)
    if panels > 1:
        _shade_area(axes[1], froc)
    axes[-1].legend(loc="lower right", fontsize=8, frameon=False)
    figure.suptitle(_title(froc), fontsize=10)
    return figure


def _draw_panel(ax: Axes, froc: Froc) -> None:
    fp, sensitivity = _to_the_edge(froc)
    if froc.few_scans is None:
        low, high = monotone(np.array(froc.band)).T
        ax.fill_between(froc.band_rates, low, high, color=CURVE, alpha=0.2, lw=0, label="95% CI")
    ax.plot(fp, sensitivity, color=CURVE, lw=1.8)
    ax.plot(froc.rates, froc.sensitivity, "o", color=CURVE, ms=4, label="rates of the CPM")


def _shade_area(ax: Axes, froc: Froc) -> None:
    fp, sensitivity = _to_the_edge(froc)
    inside = fp < froc.upper
    ax.fill_between(
        np.append(fp[inside], froc.upper),
        np.append(sensitivity[inside], np.interp(froc.upper, fp, sensitivity)),
        color=AREA,
        alpha=0.18,
        lw=0,
        label=f"area, 0 to {froc.upper:g} FP",
    )


def monotone(band: FloatArray) -> FloatArray:
    """Return a band (n, 2) of (low, high) that never falls, as a FROC curve never does."""
    return np.maximum.accumulate(band, axis=0)


def _to_the_edge(froc: Froc) -> tuple[FloatArray, FloatArray]:
    """Return the curve, continued at its last sensitivity to the right edge."""
    return (
        np.append(froc.fp_per_scan, max(FURTHEST, froc.fp_per_scan[-1])),
        np.append(froc.curve_sensitivity, froc.curve_sensitivity[-1]),
    )


def _set_axes(ax: Axes) -> None:
    ax.set_xlabel("false positives per scan")
    ax.set_ylabel("sensitivity")
    ax.set_ylim(0, TOP)
    ax.grid(alpha=0.25, lw=0.6)


def _set_log(ax: Axes, upper: float) -> None:
    _set_axes(ax)
    ax.set_xscale("log", base=2)
    ax.set_xlim(FIRST_LOG, FURTHEST)
    ax.set_xticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    if FIRST_LOG < upper < FURTHEST:
        ax.axvline(upper, color=AREA, lw=1, ls=":")


def _set_linear(ax: Axes, upper: float) -> None:
    _set_axes(ax)
    ax.set_xlim(0, upper)


def _title(froc: Froc) -> str:
    low, high = froc.pauc_interval or (math.nan, math.nan)
    interval = "too few scans for a CI" if froc.few_scans else f"95% CI {low:.3f} to {high:.3f}"
    lesions, scans = (
        f"{n} {noun}{'' if n == 1 else 's'}"
        for n, noun in ((froc.n_lesions, "lesion"), (froc.n_scans, "scan"))
    )
    return (
        f"pAUC 0 to {froc.upper:g} FP/scan: {froc.pauc:.3f} ({interval}), "
        f"CPM {froc.cpm:.3f}\n{lesions} in {scans}"
    )
