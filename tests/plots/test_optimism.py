"""Reported against cross-validated values, as a picture."""

from nodule_det.plots.optimism import draw_optimism


def test_each_setting_has_a_row_with_both_values():
    row = {"trial": 1, "observed": 0.9, "pauc": 0.8, "pauc_interval": [0.7, 0.85], "chosen": True}
    figure = draw_optimism([row, {**row, "trial": 4, "chosen": False}])
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["trial 1 (chosen)", "trial 4"]
    assert sorted({line.get_xdata()[0] for line in ax.lines}) == [0.7, 0.8, 0.9]


def test_the_test_set_is_drawn_in_the_row_of_the_chosen_setting():
    row = {"trial": 1, "observed": 0.9, "pauc": 0.8, "pauc_interval": [0.7, 0.85], "chosen": False}
    test = {"pauc": 0.75, "pauc_interval": [0.6, 0.88], "few_scans": False}
    (ax,) = draw_optimism([row, {**row, "trial": 4, "chosen": True}], test).axes
    (point,) = [line for line in ax.lines if line.get_label() == "test, chosen model"]
    assert point.get_xdata()[0] == 0.75
    assert 1 < point.get_ydata()[0] < 1.5  # the second row is the chosen one
    interval = [line for line in ax.lines if list(line.get_xdata()) == [0.6, 0.88]]
    assert len(interval) == 1
