"""The FROC curve as a picture: for a run folder, a paper (PDF, SVG) or an HTML page.

    Froc ──save_curve()──▶ .png, .svg, .pdf
         └─curve_svg()───▶ text to put into a page

Drawn without pyplot, so nothing depends on a display or on what was drawn before.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_det.analysis import Froc
from nodule_det.errors import ConfigError
from nodule_det.files import replacing

CURVE, AREA = "#0072B2", "#E69F00"
"""Blue and orange that colour-blind people tell apart (Okabe and Ito 2008); the curve is a line
and the area a pale ground, so the picture also works in grey."""

FURTHEST = 8.0
"""False positives per scan at the right edge: the last rate of LUNA16."""

FIRST_LOG = 1 / 16
"""Left edge of a logarithmic axis, which has no zero."""

FORMATS = (".png", ".svg", ".pdf")

# Text stays text in SVG and PDF, and equal figures give equal files.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "nodule_det", "pdf.fonttype": 42}
NO_DATE = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def save_curve(froc: Froc, path: Path, *, log_x: bool = False) -> None:
    """Draw the curve with its 95 % band; the format follows from the suffix.

    Args:
        froc: What to draw.
        path: File to write: .png, .svg or .pdf.
        log_x: Whether false positives are drawn on a logarithmic axis, as LUNA16 does.

    Raises:
        ConfigError: If the suffix is another one.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path} must end in {', '.join(FORMATS)}: a figure has no other format")
    with replacing(path) as temporary, rc_context(STYLE):
        draw_curve(froc, log_x=log_x).savefig(
            temporary, format=path.suffix[1:], dpi=150, metadata=NO_DATE[path.suffix]
        )


def curve_svg(froc: Froc, *, log_x: bool = False) -> str:
    """Draw the same picture as an ``<svg>`` element for an HTML page."""
    out = io.StringIO()
    with rc_context(STYLE):
        draw_curve(froc, log_x=log_x).savefig(out, format="svg", metadata=NO_DATE[".svg"])
    text = out.getvalue()
    return text[text.index("<svg") :]


def draw_curve(froc: Froc, *, log_x: bool = False) -> Figure:
    """Draw into a figure of its own.

    Shaded is what the partial area counts; the dots are the seven rates of the CPM.
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    ax = figure.subplots()
    _set_axes(ax, log_x)
    if froc.pauc is None:
        ax.text(0.5, 0.5, str(froc.reason), transform=ax.transAxes, ha="center", wrap=True)
        return figure
    fp = np.append(froc.fp_per_scan, max(FURTHEST, froc.fp_per_scan[-1]))
    sensitivity = np.append(froc.curve_sensitivity, froc.curve_sensitivity[-1])
    low, high = np.transpose(froc.band)
    ax.fill_between(froc.band_rates, low, high, color=CURVE, alpha=0.2, lw=0, label="95 % interval")
    upper = np.interp(froc.upper, fp, sensitivity)
    inside = fp < froc.upper
    ax.fill_between(
        np.append(fp[inside], froc.upper),
        np.append(sensitivity[inside], upper),
        color=AREA,
        alpha=0.18,
        lw=0,
        label=f"area up to {froc.upper:g} FP",
    )
    ax.axvline(froc.upper, color=AREA, lw=1, ls=":")
    ax.plot(fp, sensitivity, color=CURVE, lw=1.8)
    ax.plot(froc.rates, froc.sensitivity, "o", color=CURVE, ms=4, label="rates of the CPM")
    ax.set_title(_title(froc), fontsize=10)
    ax.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _set_axes(ax: Axes, log_x: bool) -> None:
    ax.set_xlabel("false positives per scan")
    ax.set_ylabel("sensitivity")
    ax.set_ylim(0, 1.005)
    if log_x:
        ticks = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
        names = ["1/16", "1/8", "1/4", "1/2", "1", "2", "4", "8"]
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, names)
        ax.set_xlim(FIRST_LOG, FURTHEST)
    else:
        ax.set_xlim(0, FURTHEST)
    ax.grid(alpha=0.25, lw=0.6)


def _title(froc: Froc) -> str:
    assert froc.pauc_interval is not None
    low, high = froc.pauc_interval
    return (
        f"pAUC up to {froc.upper:g} FP: {froc.pauc:.3f} ({low:.3f} to {high:.3f}), "
        f"CPM {froc.cpm:.3f}\n{froc.n_lesions} lesions in {froc.n_scans} scans"
    )
