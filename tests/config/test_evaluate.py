"""Settings of an evaluation."""

from __future__ import annotations

import pytest

from nodule_det.config.evaluate import EvaluateConfig
from nodule_det.errors import ConfigError

TABLES = {"candidates": "c.csv", "annotations": "a.csv", "scans": "s.csv"}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_must_be_named(name):
    with pytest.raises(ConfigError, match=f"{name} is missing: add {name}=FILE.csv"):
        EvaluateConfig(**{**TABLES, name: ""})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upper": 0.0}, "upper=0.0 must be a positive number"),
        ({"upper": float("nan")}, "upper=nan must be a positive number"),
        ({"bootstrap": 1}, r"bootstrap=1 must lie in \[2, 1000000\]"),
        ({"permutations": 0}, "permutations=0 must lie in"),
        ({"detect": -0.1}, "detect=-0.1 must be a positive difference"),
        ({"seed": -1}, "seed=-1 must lie in"),
    ],
)
def test_an_impossible_value_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig(**TABLES, **settings)
