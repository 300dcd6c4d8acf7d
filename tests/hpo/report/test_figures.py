"""The pictures of a study, by what stands in them; also of studies that have nothing to show."""

from dataclasses import replace

import pytest

from nodule_det.config.hpo import Direction
from nodule_det.hpo.report.figures import draw_best, draw_states, draw_workers
from nodule_det.hpo.report.history import Doing, Ended, Span
from nodule_det.hpo.report.space_figures import draw_parallel
from nodule_det.hpo.study.objective import PAUC, Objective
from nodule_det.hpo.study.study import Header, Study
from nodule_det.plots.style import as_svg, save_png
from tests.hpo.report.small_study import BETTER, FAILED, GOOD, SPACE


def words(figure):
    texts = [t for ax in figure.axes for t in ax.texts]
    return [t.get_text() for t in [*texts, *(x for g in figure.legends for x in g.get_texts())]]


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


def test_the_best_is_a_step_with_its_interval():
    ended = [Ended(1, 2.0, GOOD, GOOD), Ended(2, 3.0, FAILED, GOOD), Ended(3, 7.0, BETTER, BETTER)]
    figure = draw_best(ended, "hours", PAUC)
    best = lines(figure)["best so far"]
    assert list(best.get_xdata()) == [2.0, 7.0, 7.0]
    assert list(best.get_ydata()) == [0.5, 0.6, 0.6]
    assert list(lines(figure)["failed"].get_xdata()) == [3.0]
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.5 - 1.96 * 0.05, 0.6 + 1.96 * 0.05))


def test_the_best_is_drawn_on_up_to_now():
    figure = draw_best([Ended(1, 2.0, GOOD, GOOD)], "hours", PAUC, now_h=9.0)
    assert list(lines(figure)["best so far"].get_xdata()) == [2.0, 9.0]


def test_without_a_standard_error_there_is_no_band():
    plain = replace(GOOD, value_se=None)
    assert not draw_best([Ended(1, 2.0, plain, plain)], "jobs", PAUC).axes[0].collections


@pytest.mark.parametrize(
    ("figure", "why"),
    [
        (draw_best([], "jobs", PAUC), "no trial is complete yet"),
        (draw_best([Ended(1, 1.0, FAILED, None)], "hours", PAUC), "no trial is complete yet"),
        (draw_workers([]), "no job was submitted yet"),
        (draw_states(Study(Header(id="x", space=SPACE))), "no trial was asked for yet"),
        (draw_parallel(SPACE, [], PAUC), "no trial has ended yet"),
    ],
)
def test_an_empty_picture_says_why(figure, why):
    assert words(figure) == [why]


def test_the_legend_of_the_workers_names_what_happened():
    spans = [Span(0, 1, Doing.QUEUED, 0.0, 1.0), Span(3, 2, Doing.FAILED, 0.0, 2.0)]
    figure = draw_workers(spans)
    assert words(figure) == ["failed", "queued"]
    assert figure.axes[0].get_ylim() == (4.5, 0.5)


def test_hundreds_of_workers_fit_on_a_page():
    spans = [Span(lane, lane, Doing.RUNNING, 0.0, 1.0) for lane in range(300)]
    assert draw_workers(spans).get_figheight() < 10


def test_equal_figures_are_equal_text_and_ids_differ_between_names():
    one, two, other = (
        as_svg(draw_parallel(SPACE, [GOOD], PAUC), name)
        for name in ("parallel", "parallel", "slices")
    )
    assert one == two != other
    assert one.startswith("<svg")


def test_a_png_is_whole_or_not_there(tmp_path):
    save_png(draw_parallel(SPACE, [GOOD], PAUC), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_value_to_minimise_is_drawn_as_it_was_reported():
    loss = Objective("rmse", Direction.minimize)
    worse, better = replace(GOOD, value=-8.0), replace(GOOD, number=2, value=-5.0, value_se=1.0)
    ended = [Ended(1, 2.0, worse, worse), Ended(2, 3.0, better, better)]
    figure = draw_best(ended, "jobs", loss)
    assert list(lines(figure)["best so far"].get_ydata()) == [8.0, 5.0, 5.0]
    assert figure.axes[0].get_ylabel() == "rmse (smaller is better)"
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(8.0 + 1.96 * 0.05)
