"""The point list says what 3D Slicer must know to show it at the right place."""

import json
from numbers import Real

import numpy as np
import pytest

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


def numbers3(value):
    return isinstance(value, list) and [isinstance(v, Real) for v in value] == [True] * 3


def one_of(*allowed):
    return lambda value: value in allowed


def of_type(kind):
    return lambda value: type(value) is kind


MARKUP = {
    "type": one_of("Fiducial", "Line", "Angle", "Curve", "ClosedCurve", "Plane", "ROI"),
    "name": of_type(str),
    "coordinateSystem": one_of("LPS", "RAS"),
    "coordinateUnits": one_of("mm", "um"),
    "labelFormat": of_type(str),
    "controlPoints": of_type(list),
}
POINT = {
    "id": of_type(str),
    "label": of_type(str),
    "description": of_type(str),
    "position": numbers3,
    "selected": of_type(bool),
    "locked": of_type(bool),
    "visibility": of_type(bool),
    "positionStatus": one_of("undefined", "preview", "defined"),
}
"""What markups-schema-v1.0.3.json of Slicer demands of the properties that we write."""

NOT_IN_SCHEMA = {"lastUsedControlPointNumber"}
"""Slicer reads and writes it; its schema allows any further property."""


def violations(content):
    """List where a Markups file breaks Slicer's schema, or has a property that nobody checked."""
    if set(content) != {"@schema", "markups"} or type(content["@schema"]) is not str:
        return ["top level"]
    wrong = []
    for markup in content["markups"]:
        if "type" not in markup:
            wrong.append("no type")
        levels = [(MARKUP, markup), *((POINT, point) for point in markup["controlPoints"])]
        for rules, level in levels:
            for name in set(level) - NOT_IN_SCHEMA:
                if name not in rules or not rules[name](level[name]):
                    wrong.append(name)
    return wrong


@pytest.mark.parametrize("most", [0, 1, 20])
def test_the_file_follows_the_schema_that_slicer_publishes(tmp_path, most):
    assert violations(written(tmp_path, most=most)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("position", [1.0, 2.0]), ("position", "1 2 3"), ("id", 1), ("locked", 0), ("color", "red")],
)
def test_the_check_of_the_schema_sees_a_wrong_point(tmp_path, name, value):
    content = written(tmp_path)
    content["markups"][0]["controlPoints"][1][name] = value
    assert violations(content) == [name]
