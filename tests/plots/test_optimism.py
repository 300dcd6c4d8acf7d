"""Reported against cross-validated values, as a picture."""

from nodule_det.plots.optimism import draw_optimism


def test_each_setting_has_a_row_with_both_values():
    row = {"trial": 1, "observed": 0.9, "pauc": 0.8, "pauc_interval": [0.7, 0.85], "chosen": True}
    figure = draw_optimism([row, {**row, "trial": 4, "chosen": False}])
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["trial 1 (chosen)", "trial 4"]
    assert sorted({line.get_xdata()[0] for line in ax.lines}) == [0.7, 0.8, 0.9]
