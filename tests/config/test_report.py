"""Settings of the report: a run, or the tables of any detector with their scans."""

from __future__ import annotations

import pytest

from nodule_det.config.report import ReportConfig
from nodule_det.errors import ConfigError

TABLES = {"candidates": "c.csv", "annotations": "a.csv", "scans": "s.csv"}


def test_a_run_needs_nothing_else():
    ReportConfig(run="runs/x")
    ReportConfig(run="runs/x", store="moved")


@pytest.mark.parametrize("voxels", ["images", "store"])
def test_tables_need_the_scans(voxels):
    ReportConfig(**TABLES, **{voxels: "folder"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "candidates is not set: set run=FOLDER"),
        ({"candidates": "c.csv"}, "annotations is not set"),
        (TABLES, "images= and store=: set exactly one of them"),
        ({**TABLES, "images": "i", "store": "s"}, "images=i and store=s: set exactly one"),
        ({"run": "r", "images": "i"}, "run=r has its own"),
        ({"run": "r", "excluded": "e.csv"}, "set run or these, not both"),
        ({"run": "r", "bootstrap": 1}, "bootstrap=1 must lie in"),
        ({"run": "r", "false_positives_per_scan": -1}, "false_positives_per_scan=-1 must lie in"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ReportConfig(**settings)
