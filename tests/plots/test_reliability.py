"""The reliability of calibrated scores: groups by hand, and a picture that opens."""

import numpy as np
from matplotlib.image import imread

from nodule_det.plots.reliability import reliability, save_reliability


def test_groups_are_of_equal_size_and_ordered():
    probability = np.linspace(0.0, 1.0, 21)[:20]
    is_true = np.arange(20) % 2 == 0
    predicted, observed = reliability(probability, is_true)
    np.testing.assert_allclose(predicted, np.arange(10) / 10 + 0.025)
    np.testing.assert_allclose(observed, 0.5)


def test_fewer_candidates_than_groups_give_one_group_each():
    predicted, observed = reliability(np.array([0.9, 0.2]), np.array([True, False]))
    np.testing.assert_array_equal(predicted, [0.2, 0.9])
    np.testing.assert_array_equal(observed, [0.0, 1.0])


def test_a_picture_is_written(tmp_path):
    save_reliability(np.array([0.9, 0.2]), np.array([True, False]), tmp_path / "r.png")
    assert imread(tmp_path / "r.png").shape[:2] == (630, 630)
