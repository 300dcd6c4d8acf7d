"""Each way in which a detector of the user's own may fail ends in one line that names it."""

import numpy as np
import pytest
import torch
from torch import nn

from nodule_det.candidates import ScanCandidates
from nodule_det.errors import DeviceMemoryError, OwnCodeError
from nodule_det.geometry import Grid
from nodule_det.model.own_detector import OwnDetector, own_code

GRID = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
TWO = ScanCandidates(np.zeros((2, 3)), np.array([0.2, 0.9]), np.array([4.0, 5.0]))


class Returns(nn.Module):
    """Returns what it was made with, or raises it."""

    def __init__(self, result):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.result = result

    def _answer(self):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result(self.weight) if callable(self.result) else self.result

    def loss(self, forward, image_hu, target, weight):
        return self._answer()

    def search(self, volume_hu):
        return self._answer()

    def candidates(self, found, grid, inside):
        return self._answer()


def own(result):
    return OwnDetector(Returns(result), "my.Boxes")


def loss_of(result):
    return own(result).loss(nn.Identity(), *3 * (torch.zeros(1, 1, 4, 4, 4),))


def candidates_of(result):
    return own(result).candidates(None, GRID, np.ones(GRID.size_vox, bool))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (RuntimeError("no\nanchors"), r"failed in loss\(\) \(RuntimeError: no anchors\); correct"),
        (KeyError("boxes"), r"my\.Boxes failed in loss\(\) \(KeyError: 'boxes'\)"),
        (None, r"loss\(\) of model\.factory=my\.Boxes returned a NoneType, expected a scalar"),
        (0.5, "returned a float, expected a scalar tensor"),
        ({"box": 1}, "returned a dict, expected a scalar tensor"),
        (lambda w: w, r"returned a tensor of shape \(3,\), expected a scalar: its mean"),
        (lambda w: w.sum().detach(), r"without a gradient; remove detach\(\)"),
    ],
)
def test_a_loss_that_cannot_be_used_is_refused_in_one_line(result, words):
    with pytest.raises(OwnCodeError, match=words) as caught:
        loss_of(result)
    assert "\n" not in str(caught.value)


def test_a_loss_with_one_element_counts_as_a_scalar():
    assert loss_of(lambda w: w.sum().reshape(1)).shape == ()


def test_a_search_that_fails_is_refused_in_one_line():
    with pytest.raises(OwnCodeError, match=r"failed in search\(\) \(ValueError: x\)"):
        own(ValueError("x")).search(torch.zeros(4, 4, 4))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (IndexError("x"), r"failed in candidates\(\) \(IndexError: x\)"),
        ([1, 2], r"candidates\(\) of .* returned a list, expected nodule_det\.ScanCandidates"),
        (
            ScanCandidates(np.zeros((2, 3)), np.array([0.5, 7.0]), np.ones(2)),
            "a score is not between 0 and 1",
        ),
        (
            ScanCandidates(np.full((1, 3), np.nan), np.ones(1), np.ones(1)),
            "a coordinate is not within",
        ),
        (ScanCandidates(np.zeros((2, 3)), np.ones(1), np.ones(2)), "must match exactly"),
        (ScanCandidates(np.zeros((2, 2)), np.ones(2), np.ones(2)), "not rows of five numbers"),
    ],
)
def test_candidates_that_cannot_be_used_are_refused_in_one_line(result, words):
    with pytest.raises(OwnCodeError, match=words) as caught:
        candidates_of(result)
    assert "\n" not in str(caught.value)


def test_candidates_are_returned_the_best_first():
    found = candidates_of(TWO)
    np.testing.assert_array_equal(found.score, [0.9, 0.2])
    np.testing.assert_array_equal(found.diameter_mm, [5, 4])
    assert len(candidates_of(ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0)))) == 0


@pytest.mark.parametrize(
    "error",
    [DeviceMemoryError("full"), torch.OutOfMemoryError("CUDA out of memory"), MemoryError()],
)
def test_errors_that_the_package_handles_itself_are_passed_on(error):
    with pytest.raises(type(error)), own_code("my.Boxes", "loss()"):
        raise error


def test_errors_of_the_built_in_network_are_not_blamed_on_a_factory():
    with pytest.raises(ValueError, match="x"), own_code("", "loss()"):
        raise ValueError("x")
