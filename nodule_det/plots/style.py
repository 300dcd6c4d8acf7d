"""What all pictures share: colours, and how a figure becomes a file or part of a page.

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

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
"""That colour-blind people tell apart (Okabe and Ito 2008)."""
DPI = 150


@dataclass(frozen=True)
class Mark:
    """How an outcome is drawn in every picture: its colour, and a line for prints in grey."""

    name: str
    colour: str
    line: str


HIT = Mark("found", "#009E73", "solid")
MISS = Mark("missed", "#D55E00", "dashed")
FALSE_POSITIVE = Mark("false positives", "#CC79A7", "dotted")


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def as_svg(figure: Figure, name: str) -> str:
    """Write a figure as an ``<svg>`` element whose text stays text.

    Args:
        figure: What to write; equal figures give equal text.
        name: Keeps the ids of this element apart from those of others in one page.
    """
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"nodule_det {name}"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def soften(ax: Axes) -> None:
    """Draw a quiet grid behind the data and leave away the frame where no axis is."""
    ax.grid(alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
