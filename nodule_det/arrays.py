"""Types of the arrays in every signature, and conversion of what users pass in their place.

lists, pandas columns, torch tensors, integers, bools ──as_numbers(), as_names()──▶ arrays
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nodule_det.errors import FrocInputError
from nodule_det.progress import of_total

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
StrArray = NDArray[np.str_]

NUMBERS = "biufOUS"
"""Kinds of NumPy arrays that may hold real numbers; objects and text are parsed."""


def as_numbers(values: Any, what: str) -> FloatArray:
    """Convert numbers of any type to float64, so that no unsigned integer can wrap.

    Masked and missing cells become NaN.

    Args:
        values: A number, or a list, array, tensor (on any device) or pandas object of numbers.
        what: Name of the values in the error message.

    Raises:
        FrocInputError: If they are not real numbers.
    """
    try:
        if hasattr(values, "detach"):  # a torch tensor, which may need gradients or be on a GPU
            values = values.detach().cpu().double().numpy()
        if isinstance(values, np.ma.MaskedArray):
            values = np.ma.filled(values.astype(np.float64), np.nan)
        array = np.asarray(values)
        if array.dtype.kind not in NUMBERS:
            raise TypeError(f"they are of type {array.dtype}")
        if array.dtype.kind == "O":
            cells = [np.nan if _is_missing(cell) else cell for cell in array.flat]
            array = np.array(cells, np.float64).reshape(array.shape)
        return np.asarray(array, np.float64)
    except (TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise FrocInputError(
            f"{what} cannot be read as numbers ({error}): pass a list or array of real numbers"
        ) from None


def as_names(values: Any, what: str) -> StrArray:
    """Convert ids of any type to text: 7 becomes "7".

    Raises:
        FrocInputError: If one is missing (None or NaN), or they are not one flat list.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty((0, 0))
    if array.dtype.kind == "O":
        missing = [i for i, name in enumerate(array.flat) if _is_missing(name)]
    elif array.dtype.kind == "f":
        missing = np.flatnonzero(np.isnan(array)).tolist()
    else:
        missing = []
    if array.ndim != 1 or missing:
        why = f"row {missing[0]} has none" if missing else f"their shape is {array.shape}"
        raise FrocInputError(f"{what} must be one id per row, but {why}")
    return array.astype(np.str_, copy=False)


def plain_id(case: str) -> str:
    """Return an id without what tools add or remove.

    That is blanks, quotes, capitals, folders, a file's ending, leading zeros and the ".0" of a
    number.
    """
    bare = case.strip().strip("\"'").lower().replace("\\", "/").rsplit("/", 1)[-1]
    bare = re.sub(r"(\.(mhd|mha|nii|gz|npy|dcm))+$", "", bare)
    if re.fullmatch(r"\d+\.0+", bare):
        bare = bare.partition(".")[0]
    return bare.lstrip("0") or bare[-1:]


def nearly(name: str, known: Iterable[str]) -> str:
    """Return a hint at the known id that differs from this one in its spelling only."""
    plain = {plain_id(other): other for other in known}
    return f" (which is nearly {plain[plain_id(name)]!r})" if plain_id(name) in plain else ""


def as_columns(
    case: Any, world_mm: Any, number: Any, what: tuple[str, str]
) -> tuple[StrArray, FloatArray, FloatArray]:
    """Convert the columns of a table of points, and check that they fit together.

    Args:
        case: (n,) ids of scans.
        world_mm: (n, 3) positions.
        number: (n,) score or diameter.
        what: Names of the table and of the third column, for the error message.

    Raises:
        FrocInputError: If a column cannot be converted, their lengths differ, or a position is not
            finite.
    """
    table, column = what
    names = as_names(case, f"the case ids of {table}")
    points = as_numbers(world_mm, f"the positions of {table}")
    numbers = as_numbers(number, f"{column} of {table}")
    n = len(names)
    if not n and not points.size:
        points = points.reshape(0, 3)
    if points.shape != (n, 3) or numbers.shape != (n,):
        raise FrocInputError(
            f"{table} have {n} case ids, positions of shape {points.shape} and {column} of shape "
            f"{numbers.shape}: expected ({n}, 3) and ({n},)"
        )
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise FrocInputError(
            f"{of_total(len(bad), n, 'position', 'is', 'are')} not finite in {table}; the first is "
            f"row {bad[0]}, case {names[bad[0]]}, {points[bad[0]].tolist()}"
        )
    return names, points, numbers


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN or pandas' NA (whose truth value is undefined)."""
    try:
        return cell is None or bool(cell != cell)
    except TypeError:
        return True
