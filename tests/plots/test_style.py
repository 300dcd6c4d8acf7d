"""Colours with one meaning each, and how a figure becomes a file or part of a page."""

from __future__ import annotations

import re

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from nodule_det.plots.style import FALSE_POSITIVE, HIT, MISS, as_svg, save_png, soften

MARKS = (HIT, MISS, FALSE_POSITIVE)
# What red, green and blue become for people without the pigment for red or for green
# (Vienot, Brettel and Mollon 1999), in linear light.
DICHROMATS = {
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


def linear(colour):
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]


def seen(colour, matrix):
    return [sum(m * c for m, c in zip(row, linear(colour), strict=True)) for row in matrix]


def test_outcomes_differ_in_colour_and_in_line():
    assert len({mark.colour for mark in MARKS}) == len({mark.line for mark in MARKS}) == 3


def test_colour_blind_readers_see_three_colours():
    for matrix in DICHROMATS.values():
        colours = [seen(mark.colour, matrix) for mark in MARKS]
        for i in range(3):
            for j in range(i):
                far = sum((a - b) ** 2 for a, b in zip(colours[i], colours[j], strict=True)) ** 0.5
                assert far > 0.1, (MARKS[i].name, MARKS[j].name)


def figure():
    drawn = Figure(figsize=(2, 1))
    soften(drawn.subplots())
    drawn.axes[0].set_xlabel("epochs")
    return drawn


def test_a_figure_becomes_a_png_of_its_size(tmp_path):
    save_png(figure(), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[:2] == (150, 300)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_svg_is_one_element_with_ids_of_its_own():
    one, other = as_svg(figure(), "one"), as_svg(figure(), "other")
    assert one == as_svg(figure(), "one")
    assert one.startswith("<svg")
    assert ">epochs<" in one
    clips = [set(re.findall(r'clipPath id="([^"]+)"', text)) for text in (one, other)]
    assert not clips[0] & clips[1]
