"""The curves of a run, also of one that has hardly begun."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread

from nodule_det.plots.style import BLUE, ORANGE, SKY
from nodule_det.plots.training import save_training

TRAIN = [
    {"kind": "train", "step": 20 * n, "seconds": 100.0 * n, "loss": 1 / n, "lr": 0.01}
    for n in range(1, 11)
]
VALIDATION = [
    {"kind": "validation", "step": 100, "seconds": 600.0, "pauc": 0.4, "pauc_interval": [0.2, 0.6]},
    {"kind": "validation", "step": 200, "seconds": 1500.0, "pauc": 0.7, "pauc_interval": None},
]


def pixels(path, colour):
    """Return the number of pixels of a colour."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int((np.abs(imread(path)[..., :3] - wanted).max(axis=-1) < 0.02).sum())


def test_loss_rate_and_pauc_are_drawn_in_their_colours(tmp_path):
    save_training([*TRAIN, *VALIDATION], tmp_path / "all.png")
    assert all(pixels(tmp_path / "all.png", colour) > 100 for colour in (SKY, ORANGE, BLUE))
    save_training(TRAIN, tmp_path / "train.png")
    assert pixels(tmp_path / "train.png", BLUE) == 0


@pytest.mark.parametrize(
    "rows",
    [
        [],
        TRAIN[:1],
        VALIDATION,
        [{**VALIDATION[0], "pauc": None, "pauc_interval": None}],
        [{"kind": "train", "step": 3, "loss": "x"}, {"kind": "other"}, *TRAIN],
        [{**row, "loss": 0.0} for row in TRAIN],
        [{**row, "seconds": 5.0} for row in TRAIN],
    ],
)
def test_a_run_that_lacks_figures_is_drawn_as_far_as_it_goes(tmp_path, rows):
    save_training(rows, tmp_path / "training.png")
    assert imread(tmp_path / "training.png").shape[2] == 4


def test_the_hours_do_not_overlap_where_a_validation_takes_long(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "nodule_det.plots.training.save_png", lambda figure, _: drawn.append(figure)
    )
    late = [{**row, "seconds": row["seconds"] + 9000 * (row["step"] > 100)} for row in TRAIN]
    save_training([*late, {**VALIDATION[0], "seconds": 9500.0}], tmp_path / "a.png")
    (figure,) = drawn
    figure.draw_without_rendering()
    (axis,) = figure.axes[0].child_axes
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert len(boxes) > 3
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    by_step = dict(zip(axis.get_xticks(), axis.get_xticklabels(), strict=True))
    assert by_step[200].get_text() == "2.8"  # 10,000 s
