"""Values that users pass as arrays: every type of number and id, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from nodule_det.arrays import as_columns, as_names, as_numbers, nearly, plain_id
from nodule_det.errors import FrocInputError

NUMBERS = {
    "list": [0, 1],
    "tuple of strings": ("0", "1"),
    "uint8": np.array([0, 1], np.uint8),
    "uint16": np.array([0, 1], np.uint16),
    "bool": np.array([False, True]),
    "float16": np.array([0, 1], np.float16),
    "tensor with gradients": torch.tensor([0.0, 1.0], requires_grad=True),
    "bfloat16 tensor": torch.tensor([0, 1], dtype=torch.bfloat16),
    "bool tensor": torch.tensor([False, True]),
    "Series": pd.Series([0, 1], index=[7, 3]),
    "nullable Series": pd.Series([0, 1], dtype="Int64"),
    "categorical Series": pd.Series([0, 1], dtype="category"),
    "objects": np.array([0, 1.0], object),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_any_type_become_float64(kind):
    numbers = as_numbers(NUMBERS[kind], "scores")
    assert numbers.dtype == np.float64
    assert numbers.tolist() == [0, 1]


@pytest.mark.parametrize(
    "values",
    [
        [None, 1.0],
        pd.Series([None, 1], dtype="Int64"),
        np.ma.array([5.0, 1.0], mask=[True, False]),
        [pd.NA, 1],
    ],
)
def test_missing_numbers_are_nan(values):
    np.testing.assert_array_equal(as_numbers(values, "scores"), [np.nan, 1])


@pytest.mark.parametrize(
    "values",
    [["x"], [1j], [[1], [1, 2]], {"a": 1}, (k for k in [1]), np.array(["2020"], "M8[D]"), object()],
)
def test_what_is_not_a_number_is_refused(values):
    with pytest.raises(FrocInputError, match="scores cannot be read as numbers"):
        as_numbers(values, "scores")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 20], ["1", "20"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (torch.tensor([1, 2]), ["1", "2"]),
        (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        ([1.0, 3.5], ["1.0", "3.5"]),
        ([b"a"], ["a"]),
        ([], []),
    ],
)
def test_ids_of_any_type_become_text(values, expected):
    assert as_names(values, "ids").tolist() == expected


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["a", None], "row 1 has none"),
        (pd.Series(["a", pd.NA], dtype="string"), "row 1 has none"),
        ([np.nan, 1.0], "row 0 has none"),
        ("abc", "their shape is ()"),
        ([["a"], ["b"]], "their shape is (2, 1)"),
        ([["a"], ["b", "c"]], "their shape is"),
    ],
)
def test_missing_and_nested_ids_are_refused(values, why):
    with pytest.raises(FrocInputError, match=re.escape(f"ids must be one id per row, but {why}")):
        as_names(values, "ids")


def test_a_column_of_text_is_not_copied():
    names = np.array(["a", "b"])
    assert as_names(names, "ids") is names


@pytest.mark.parametrize(
    ("odd", "plain"),
    [(" A ", "a"), ("x/y.nii.gz", "y"), ("007", "7"), ("7.0", "7"), ("1.20", "1.20"), ("0", "0")],
)
def test_ids_are_compared_without_what_tools_add_or_remove(odd, plain):
    assert plain_id(odd) == plain


def test_an_id_in_another_spelling_is_named():
    assert nearly("7.0", ["a", "007"]) == " (which is nearly '007')"
    assert nearly("b", ["a"]) == ""


def test_columns_that_do_not_fit_together_are_refused():
    with pytest.raises(FrocInputError, match=r"rows have 2 case ids, positions of shape \(1, 3\)"):
        as_columns(["a", "b"], [[0, 0, 0]], [1, 2], ("rows", "score"))
    names, points, numbers = as_columns([], [], [], ("rows", "score"))
    assert (names.shape, points.shape, numbers.shape) == ((0,), (0, 3), (0,))
