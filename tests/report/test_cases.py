"""What a page lists of a detector: lesions, false positives and their pictures."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.config.report import ReportConfig
from nodule_det.froc import match
from nodule_det.report.cases import Scored, list_cases, list_findings
from nodule_det.report.cubes import EDGE
from nodule_det.report.source import open_source
from tests.report.run_folder import make_run


@pytest.fixture
def source(tmp_path):
    with open_source(ReportConfig(run=str(make_run(tmp_path).path))) as source:
        yield source


def scored(source):
    job = source.job
    matched = match(job.cases, job.lesions, job.candidates, job.excluded)
    return Scored(job.lesions, ["a", "b", "c"], job.candidates, np.full(5, 6.0), matched)


def test_a_missed_lesion_has_no_score_and_false_positives_fall(source):
    assert list_cases(scored(source).matched) == [
        {"uid": "1.2.0", "lesions": [0.9, None], "fps": [0.7, 0.2]},
        {"uid": "1.2.1", "lesions": [0.8], "fps": [0.95]},
    ]


def test_every_lesion_is_listed_and_so_many_false_positives_of_a_scan(source):
    rows = list(list_findings(scored(source), source.scans, false_positives_per_scan=1))
    assert [(r["scan"], r["outcome"], r["score"]) for r in rows] == [
        ("1.2.0", "hit", 0.9),
        ("1.2.0", "miss", None),
        ("1.2.0", "fp", 0.7),
        ("1.2.1", "hit", 0.8),
        ("1.2.1", "fp", 0.95),
    ]
    assert [r["id"] for r in rows] == [0, 1, 2, 3, 4]


def test_a_finding_says_where_it_lies(source):
    rows = list(list_findings(scored(source), source.scans, false_positives_per_scan=0))
    first, last = rows[0], rows[-1]
    assert first["world_mm"] == [40.0, 50.0, 60.0]
    assert first["center"] == [EDGE // 2] * 3
    assert first["slices"] == {"first_mm": 5.0, "step_mm": 2.5, "n": 40, "resampled": False}
    assert last["slices"] == {"first_mm": 30.0, "step_mm": 1.0, "n": 64, "resampled": True}
    assert first["axial"]["place"] == [30.0, 30.0]  # x, y of an 80 x 72 slice
    assert [ring["kind"] for ring in first["rings"]] == ["lesion", "candidate"]
    assert first["rings"][0]["radius"] == 4.0
