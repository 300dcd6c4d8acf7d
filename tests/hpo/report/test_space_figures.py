"""The pictures over the search space: what lies where, and how it is named."""

from dataclasses import replace

import numpy as np
import pytest

from nodule_det.config.hpo import Direction
from nodule_det.hpo.model.expected import Expected
from nodule_det.hpo.report.insight import Importance, Insight, Slice
from nodule_det.hpo.report.space_figures import (
    draw_importance,
    draw_parallel,
    draw_slices,
    place,
    short_names,
    tick_text,
)
from nodule_det.hpo.study.objective import PAUC, Objective
from tests.hpo.report.small_study import BETTER, FAILED, GOOD, SPACE


def test_all_trials_failed_is_drawn_without_a_scale_of_values():
    assert len(draw_parallel(SPACE, [FAILED], PAUC).axes) == 1
    assert len(draw_parallel(SPACE, [FAILED, GOOD, BETTER], PAUC).axes) == 2


def test_values_lie_between_the_ends_of_their_axis():
    filters, lr, residual = SPACE.free
    assert place(filters, 4) == pytest.approx(0.5 / 15)  # 15 values, each with a bin of its own
    assert place(lr, 1e-5) == pytest.approx(0.5)
    assert (place(residual, False), place(residual, True)) == (0.25, 0.75)


def test_names_are_short_where_they_stay_different():
    assert list(short_names(SPACE).values()) == ["filters", "optim.lr", "loss.lr"]


def test_values_are_written_short():
    assert [tick_text(v) for v in (True, False, 3.14159e-5, 16, "adam")] == [
        "yes", "no", "3.14e-05", "16", "adam",
    ]  # fmt: skip


def test_a_scale_of_values_to_minimise_shows_them_as_reported():
    loss = Objective("rmse", Direction.minimize)
    worse, better = replace(GOOD, value=-8.0), replace(BETTER, value=-5.0)
    scale = draw_parallel(SPACE, [worse, better], loss).axes[1]
    assert scale.get_ylabel() == "rmse"
    assert scale.get_ylim() == (5.0, 8.0)


@pytest.fixture
def insight():
    """A model that rises by 0.2 along the learning rate; the other parameters are without one."""
    filters, lr, _ = SPACE.free
    values = (1e-8, 1e-5, 1e-2)
    rising = Slice(lr, values, np.array([0.4, 0.5, 0.6]), np.full(3, 0.05))
    absent = Slice(filters, (), np.zeros(0), np.zeros(0))
    return Insight(
        best=GOOD,
        expected=0.5,
        expected_sd=0.01,
        most_expected=Expected(1, 0.5, 0.01),
        n_values=1,
        slices=(rising, absent),
        importance=(Importance("optim.lr", 0.75, 0.5, 1.0), Importance("loss.lr", 0.25, 0.25, 0.5)),
        n_models=2,
    )


def test_a_slice_shows_the_mean_its_band_and_the_best_trial(insight):
    lr, filters = draw_slices(insight, SPACE, [GOOD, FAILED], PAUC).axes[:2]
    assert [lr.get_title(), filters.get_title()] == ["optim.lr: 0.2", "filters"]
    assert lr.get_xscale() == "log"
    assert list(lr.lines[0].get_ydata()) == [0.4, 0.5, 0.6]
    band = lr.collections[0].get_paths()[0].vertices[:, 1]
    ends = (0.4 - 1.96 * 0.05, 0.6 + 1.96 * 0.05)
    assert (band.min(), band.max()) == pytest.approx(ends)
    cross, best = (next(x for x in lr.lines if x.get_marker() == marker) for marker in "xD")
    assert list(cross.get_xdata()) == [FAILED.params["optim.lr"]]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([1e-5], [0.5])
    assert [text.get_text() for text in filters.texts] == ["absent from the best trial"]


def test_the_most_important_parameter_is_the_top_bar(insight):
    ax = draw_importance(insight, SPACE).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["loss.lr", "optim.lr"]
    assert [bar.get_width() for bar in ax.patches] == [0.25, 0.75]
    whiskers = ax.collections[0].get_segments()
    assert [[x for x, _ in one] for one in whiskers] == [[0.25, 0.5], [0.5, 1.0]]
