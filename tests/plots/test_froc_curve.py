"""The curve as a picture: formats, words, and that a failed drawing leaves nothing behind."""

import re

import numpy as np
import pytest

from nodule_det.analysis import analyse
from nodule_det.errors import ConfigError
from nodule_det.froc import Candidates, Lesions, match
from nodule_det.plots.froc_curve import curve_svg, draw_curve, monotone, save_curve

ORIGIN = np.zeros((1, 3))
FAR = np.full((1, 3), 99.0)


@pytest.fixture(scope="module")
def froc():
    lesions = Lesions(np.array(["a", "b"]), np.vstack([ORIGIN, ORIGIN]), np.array([6.0, 6.0]))
    candidates = Candidates(np.array(["a", "b"]), np.vstack([ORIGIN, FAR]), np.array([0.9, 0.5]))
    return analyse(match(["a", "b"], lesions, candidates), bootstrap=20)


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_the_suffix_decides_the_format(froc, tmp_path, suffix, start):
    save_curve(froc, tmp_path / f"froc.{suffix}")
    assert (tmp_path / f"froc.{suffix}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_another_suffix_is_refused(froc, tmp_path):
    with pytest.raises(ConfigError, match=r"froc\.bmp must end in \.png, \.svg, \.pdf"):
        save_curve(froc, tmp_path / "froc.bmp")


def test_equal_figures_give_equal_pictures(froc):
    assert curve_svg(froc) == curve_svg(froc)
    assert curve_svg(froc).rates == (1 / 8, 8)


def test_the_svg_is_one_element_with_its_words_as_text(froc):
    text = curve_svg(froc).svg
    assert text.startswith("<svg")
    assert text.rstrip().endswith("</svg>")
    words = " ".join(re.findall(r">([^<>]+)<", text))
    for expected in ("pAUC 0 to 5 FP/scan: 0.500", "2 lesions in 2 scans", "sensitivity"):
        assert expected in words


def test_the_curve_is_drawn_to_the_right_edge(froc):
    for ax in draw_curve(froc).axes:
        line = ax.lines[0]
        assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (8, 1 / 2)


def test_papers_axis_is_the_first_panel_and_a_linear_one_is_beside_it(froc):
    log, linear = draw_curve(froc).axes
    assert (log.get_xscale(), log.get_xlim()) == ("log", (1 / 8, 8))
    assert [t.get_text() for t in log.get_xticklabels()] == [
        "1/8",
        "1/4",
        "1/2",
        "1",
        "2",
        "4",
        "8",
    ]
    assert (linear.get_xscale(), linear.get_xlim()) == ("linear", (0, 5))
    assert len(draw_curve(froc, panels=1).axes) == 1


def test_the_band_never_falls():
    band = np.array([[0.1, 0.5], [0.3, 0.4], [0.2, 0.6]])
    assert monotone(band).tolist() == [[0.1, 0.5], [0.3, 0.5], [0.3, 0.6]]


def test_without_lesions_the_picture_says_why():
    nothing = Candidates(np.array(["a"]), ORIGIN, np.array([0.9]))
    none = Lesions(np.empty(0, str), np.empty((0, 3)), np.empty(0))
    froc = analyse(match(["a"], none, nothing), bootstrap=2)
    assert "there is no lesion in 1 scan" in curve_svg(froc).svg
