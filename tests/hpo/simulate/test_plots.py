"""The figures of the poster's experiment, with their numbers checked by hand."""

import numpy as np
import pytest

from nodule_det.hpo.simulate.plots import best_at, draw_by_strategy, mean_curve, summary_rows
from nodule_det.hpo.simulate.study import Finished, Run
from nodule_det.hpo.study.trial import TrialState


def run(*worth, strategy="random", workers=1, repetition=0):
    rows = [Finished(i, 2.0 * i, 1.0, TrialState.COMPLETE, w, w, w) for i, w in enumerate(worth, 1)]
    return Run(strategy, workers, 0, repetition, rows)


def test_the_mean_curve_by_hand():
    a, b = run(0.2, 0.4), run(0.4, 0.8)
    assert list(best_at(a, "hours", np.array([0.0, 1.9, 2.0, 5.0]))) == [0.0, 0.0, 0.2, 0.4]
    x, mean, error = mean_curve([a, b], "jobs")
    assert list(x) == [1.0, 2.0]
    assert list(mean) == pytest.approx([0.3, 0.6])
    assert error[-1] == pytest.approx(0.2)  # sd of 0.4 and 0.8 is 0.283, over the root of 2
    assert mean_curve([a, b], "hours")[0][-1] == 4.0


def test_the_posters_second_axis_is_jobs_over_workers():
    x, mean, _ = mean_curve([run(0.1, 0.2, 0.3, 0.4, workers=4)], "rounds")
    assert list(x) == [1 / 4, 2 / 4, 3 / 4, 1]
    assert list(mean) == [0.1, 0.2, 0.3, 0.4]


def test_the_summary_has_the_paired_loss_of_more_workers():
    few = [run(0.5, repetition=0), run(0.7, repetition=1)]
    many = [run(0.4, repetition=0, workers=4), run(0.7, repetition=1, workers=4)]
    heading, one, four = summary_rows([*few, *many])
    row = dict(zip(heading, four, strict=True))
    assert (row["workers"], row["runs"], row["worth"]) == (4, 2, "0.5500")
    assert (row["loss"], row["loss_se"]) == ("0.0500", "0.0500")  # of 0.1 and 0
    assert dict(zip(heading, one, strict=True))["loss"] == "0.0000"


def test_each_panel_has_a_curve_for_each_number_of_workers():
    runs = [run(0.1, 0.2, strategy=s, workers=m) for s in ("nei", "random") for m in (1, 16)]
    figure = draw_by_strategy(runs, "jobs")
    assert [ax.get_title() for ax in figure.axes] == ["nei", "random"]
    assert [line.get_label() for line in figure.axes[0].lines] == ["M = 1", "M = 16", "random"]
    assert [line.get_label() for line in figure.axes[1].lines] == ["M = 1", "M = 16"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "M = 1", "M = 16", "random",
    ]  # fmt: skip
