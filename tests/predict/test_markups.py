"""The point list says what 3D Slicer must know to show it at the right place."""

import json

import numpy as np

from nodule_det.candidates import ScanCandidates
from nodule_det.predict.markups import write_markups

FOUND = ScanCandidates(
    world_mm=np.array([[-12.5, 40.25, -300.0], [1.0, 2.0, 3.0]]),
    score=np.array([0.931, 0.2]),
    diameter_mm=np.array([8.04, 5.0]),
)


def written(path, found=FOUND, most=20):
    write_markups(path / "a.mrk.json", found, most)
    return json.loads((path / "a.mrk.json").read_text())


def test_the_file_says_that_its_points_are_lps_and_millimetres(tmp_path):
    content = written(tmp_path)
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    (markup,) = content["markups"]
    assert markup["type"] == "Fiducial"
    assert (markup["coordinateSystem"], markup["coordinateUnits"]) == ("LPS", "mm")


def test_points_stand_in_order_with_rank_score_and_size(tmp_path):
    (markup,) = written(tmp_path)["markups"]
    points = markup["controlPoints"]
    assert [p["position"] for p in points] == [[-12.5, 40.25, -300.0], [1.0, 2.0, 3.0]]
    assert [p["label"] for p in points] == ["1: 0.93", "2: 0.20"]
    assert points[0]["description"] == "probability 0.9310, diameter 8.0 mm"
    assert {p["positionStatus"] for p in points} == {"defined"}  # else Slicer does not draw it


def test_only_the_best_are_written(tmp_path):
    (markup,) = written(tmp_path, most=1)["markups"]
    assert [p["id"] for p in markup["controlPoints"]] == ["1"]


def test_a_scan_without_candidates_gives_an_empty_list(tmp_path):
    none = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))
    (markup,) = written(tmp_path, none)["markups"]
    assert markup["controlPoints"] == []
