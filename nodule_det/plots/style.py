"""Common to all figures: colours, and writing a figure to a file or a page.

    Figure ──save_png()──▶ .png
           └─as_svg()────▶ text to put into a page

Drawn without pyplot, so nothing depends on a display or on what was drawn before.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodule_det.files import replacing

BLUE, ORANGE, GREEN, PINK, RED, SKY, BLACK = COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000",
)  # fmt: skip
"""Colours that colour-blind people can distinguish (Okabe and Ito 2008).

Each has one meaning in every picture: blue is the result itself (a curve, a complete trial), orange
what it is held against (the area, a limit, a cancelled trial), sky blue its parts (folds, running
trials), green a found lesion, red a failure (a missed lesion, a failed trial), and pink what is
wrong without being lost (a false positive, a job that ended while its trial went on).
"""
DPI = 150


@dataclass(frozen=True)
class Mark:
    """Style of each outcome in all figures: its colour, and a line style for prints in grey."""

    name: str
    colour: str
    line: str


HIT = Mark("found", GREEN, "solid")
MISS = Mark("missed", RED, "dashed")
FALSE_POSITIVE = Mark("false positives", PINK, "dotted")


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def as_svg(figure: Figure, name: str) -> str:
    """Return a figure as an ``<svg>`` element whose text stays text.

    Args:
        figure: The figure; equal figures produce equal text.
        name: Prefix that keeps the ids of this element unique within a page.
    """
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"nodule_det {name}"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def soften(ax: Axes) -> None:
    """Draw a subtle grid behind the data, and remove the frame where there is no axis."""
    ax.grid(alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
