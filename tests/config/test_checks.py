"""Checks that several settings share."""

from __future__ import annotations

import re

import pytest

from nodule_det.config.checks import require_choice, require_range, require_step
from nodule_det.errors import ConfigError


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_the_ends_of_a_range_are_allowed(value):
    require_range("share", value, 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_value_outside_a_range_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=re.escape(f"share={value} must lie in [0, 1]")):
        require_range("share", value, 0, 1)


@pytest.mark.parametrize(("value", "fits"), [(2, True), (6, True), (3, False), (0, False)])
def test_a_step_counts_from_the_low_end(value, fits):
    if fits:
        require_step("n", value, 2, 6, 2)
    else:
        with pytest.raises(ConfigError, match=rf"n={value} must be one of 2, 4, \.\.\., 6"):
            require_step("n", value, 2, 6, 2)


def test_an_unknown_choice_is_refused_with_the_allowed_ones():
    require_choice("edge", 3, (3, 5))
    with pytest.raises(ConfigError, match="edge=4 must be one of 3, 5"):
        require_choice("edge", 4, (3, 5))
