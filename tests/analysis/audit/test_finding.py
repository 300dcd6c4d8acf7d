"""A finding and its rows as plain JSON."""

import json

import numpy as np

from nodule_det.analysis.audit.finding import (
    AuditFinding,
    Level,
    candidate_row,
    case_rows,
    lesion_row,
)
from tests.analysis.froc_jobs import as_candidates, as_lesions


def test_a_record_is_plain_json():
    finding = AuditFinding(Level.NOTE, "odd", "something is odd", case_rows(["a"]))
    record = json.loads(json.dumps(finding.as_dict(), allow_nan=False))
    assert record == {
        "level": "note",
        "code": "odd",
        "message": "something is odd",
        "rows": [{"case": "a"}],
    }


def test_ten_scans_are_listed_at_most():
    assert [row["case"] for row in case_rows(map(str, range(30)))] == [str(k) for k in range(10)]


def test_numbers_that_json_lacks_are_none():
    lesions = as_lesions([("a", 1, 2, 3, np.nan)])
    assert lesion_row(lesions, 0) == {"case": "a", "world_mm": [1, 2, 3], "diameter_mm": None}
    candidates = as_candidates([("a", 1, 2, 3, 0.5), ("a", 1, 2, 3, np.inf)])
    assert candidate_row(candidates, 0)["score"] == 0.5
    assert candidate_row(candidates, 1) == {
        "case": "a",
        "world_mm": [1, 2, 3],
        "score": None,
        "row": 1,
    }
