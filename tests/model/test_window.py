"""What the network sees of Hounsfield units."""

import torch

from nodule_det.model import WINDOW_HU, normalise


def test_the_window_becomes_nought_to_one_and_the_rest_is_clipped():
    hu = torch.tensor([-3000, -1024, -312, 400, 3071], dtype=torch.int16)
    assert normalise(hu).tolist() == [0, 0, 0.5, 1, 1]


def test_any_type_becomes_float32():
    assert normalise(torch.zeros(2, dtype=torch.float64)).dtype is torch.float32


def test_air_is_what_a_padded_convolution_sees_beyond_its_border():
    assert normalise(torch.tensor(WINDOW_HU[0])).item() == 0
