"""Every trap that the audit knows, sprung on purpose; and silence where nothing is wrong."""

import json

import numpy as np
import pytest

from nodule_det.analysis import Level, audit
from nodule_det.errors import FrocInputError
from nodule_det.froc import match
from tests.analysis.froc_jobs import as_candidates, as_lesions

LESIONS = [
    ("a", -50.0, 130.5, -520.25, 10.0),
    ("b", -30.0, 90.0, -300.0, 8.0),
    ("c", 60.0, 40.0, -100.0, 6.0),
]
EXCLUDED = [("a", 0.0, 0.0, -500.0, -1.0)]
HITS = [(*lesion[:4], 0.9 - k / 10) for k, lesion in enumerate(LESIONS)]
FALSE = [("a", 10.5, 20.5, -480.0, 0.55), ("d", 1.5, 2.5, -3.5, 0.35)]
CASES = ["a", "b", "c", "d"]


def found(cases=CASES, lesions=LESIONS, candidates=(*HITS, *FALSE), excluded=EXCLUDED, **settings):
    three = as_lesions(lesions), as_candidates(candidates), as_lesions(excluded)
    findings = audit(*three, match(cases, *three, **settings))
    json.dumps([finding.as_dict() for finding in findings], allow_nan=False)
    return {finding.code: finding for finding in findings}


def test_good_input_gives_no_warning():
    assert {f.level for f in found().values()} == {Level.NOTE}
    assert list(found()) == ["worst_false_positives"]


def test_one_fold_against_all_scans_is_noticed():
    findings = found(cases=[*CASES, *(f"other{k}" for k in range(9))])
    finding = findings["cases_without_candidates"]
    assert finding.message.startswith("9 of 13 scans have no candidate, 0 of them have lesions")
    assert "was one fold evaluated against the scans of all?" in finding.message
    assert finding.level is Level.WARNING
    assert next(iter(findings)) == "cases_without_candidates", "warnings come first"


def test_what_was_left_out_on_purpose_is_counted():
    findings = found(
        lesions=[*LESIONS, ("x", 0, 0, 0, 5)],
        excluded=[*EXCLUDED, ("y", 0, 0, 0, 5)],
        candidates=[*HITS, ("x", 0, 0, 0, 1), ("a", 0, 0, 0, np.nan)],
        drop_unknown_findings=True,
        drop_unknown_candidates=True,
        drop_nan=True,
    )
    assert findings["unknown_candidates"].message.startswith("1 candidates of scans")
    assert findings["nan_scores"].message.startswith("1 candidates without a score")
    assert findings["unknown_lesions"].rows == ({"case": "x"},)
    assert findings["unknown_excluded"].rows == ({"case": "y"},)


def test_a_cap_on_candidates_is_noticed():
    rng = np.random.default_rng(0)
    rows = [(case, *rng.uniform(-50, 50, 3), rng.random()) for case in CASES for _ in range(100)]
    message = found(candidates=rows)["capped_rows"].message
    assert message.startswith("4 of 4 scans have exactly 100 candidates and none has more")
    assert "capped_rows" not in found(candidates=rows[:370:3])


def test_equal_scores_are_noticed():
    level = [(*row[:4], 1.0) for row in (*HITS, *FALSE)]
    assert found(candidates=level)["equal_scores"].message.startswith("all 5 scores are 1")
    tied = [*HITS, ("a", 10.5, 20.5, -480.0, 0.9)]
    assert (
        "1 of 3 lesions found share their score" in found(candidates=tied)["equal_scores"].message
    )


def test_voxel_coordinates_are_noticed():
    rows = [("a", 120, 340, 77, 0.9), ("b", 12, 34, 80, 0.7)]
    message = found(candidates=rows)["voxel_coordinates"].message
    assert "100% of them are whole numbers" in message


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda x, y, z: (z, y, x), "x and z are swapped (array order z, y, x):"),
        (lambda x, y, z: (-x, -y, z), "x and y have the other sign (RAS instead of LPS):"),
        (lambda x, y, z: (z, -y, -x), "x and z are swapped and x and y have the other sign:"),
    ],
)
def test_other_axes_are_recognised(turn, words):
    rows = [(case, *turn(*point), score) for case, *point, score in HITS]
    message = found(candidates=rows)["wrong_axes"].message
    assert message.startswith(f"0 of 3 lesions are found, but 3 would be if {words}")


def test_a_point_that_no_scan_reaches_is_noticed():
    finding = found(candidates=[*HITS, ("a", 5000.0, 0.0, 0.0, 0.9)])["outside_the_scan"]
    assert finding.message.startswith("1 of 4 candidates lie more than 700 mm from a lesion")
    assert finding.rows[0]["row"] == 3


def test_a_lesion_that_stands_twice_is_noticed():
    message = found(lesions=[*LESIONS, LESIONS[0]])["repeated_lesions"].message
    assert message.startswith("1 lesions have the place of another one")


def test_a_forgotten_list_of_excluded_findings_is_noticed():
    assert "LUNA16 does" in found(excluded=[])["no_excluded_findings"].message


def test_missed_lesions_are_listed_with_their_size_the_largest_first():
    finding = found(candidates=[HITS[0], *FALSE])["missed_lesions"]
    assert (
        "2 of 3 lesions are hit by no candidate; their median diameter is 7.0 mm" in finding.message
    )
    assert [row["diameter_mm"] for row in finding.rows] == [8.0, 6.0]


def test_the_worst_false_positives_are_listed():
    rows = found()["worst_false_positives"].rows
    assert [(row["case"], row["score"], row["row"]) for row in rows] == [
        ("a", 0.55, 3),
        ("d", 0.35, 4),
    ]


@pytest.mark.parametrize("odd", ["A ", "scans/a.mhd", "a.nii.gz"])
def test_an_unknown_id_that_is_nearly_a_known_one_says_so(odd):
    with pytest.raises(FrocInputError, match=r"\(which is nearly 'a'\)"):
        match(CASES, as_lesions(LESIONS), as_candidates([(odd, 0, 0, 0, 0.5)]))


def test_an_empty_evaluation_is_audited_too():
    assert set(found(lesions=[], candidates=[], excluded=[])) == {
        "cases_without_candidates",
        "no_excluded_findings",
    }
