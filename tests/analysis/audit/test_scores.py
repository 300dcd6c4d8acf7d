"""Scores that do not rank, and scores that rank the wrong way round."""

import numpy as np
import pytest

from tests.analysis.audit.submissions import correct

GOOD = correct(3)


def scored(how, scans=GOOD.cases):
    return GOOD.change(
        candidates=[(*row[:4], how(row[4])) if row[0] in scans else row for row in GOOD.candidates]
    )


@pytest.mark.parametrize("turn", [lambda s: -s, lambda s: 1 / (1 + np.exp(s))])
def test_reversed_scores_are_noticed(turn):
    message = scored(turn).findings()["reversed_scores"].message
    assert "the order of the scores looks reversed" in message


def test_reversed_scores_of_some_scans_are_noticed():
    # A sure detector: lesions above all false positives of their scan.
    sure = correct(5, n_scans=60)
    lesion_points = {tuple(np.round(row[1:4])) for row in sure.lesions}
    assert lesion_points
    centers = np.array([row[1:4] for row in sure.lesions])
    near = [np.linalg.norm(centers - row[1:4], axis=1).min() < 6 for row in sure.candidates]
    rows = [(*row[:4], row[4] + 20 * hit) for row, hit in zip(sure.candidates, near, strict=True)]
    assert sure.change(candidates=rows).warnings() == set()
    some = set(sure.cases[::4])
    rows = [(*row[:4], -row[4]) if row[0] in some else row for row in rows]
    finding = sure.change(candidates=rows).findings()["reversed_scores"]
    assert {row["case"] for row in finding.rows} <= some


def test_equal_scores_are_noticed():
    message = scored(lambda s: 1.0).findings()["equal_scores"].message
    assert message.startswith("all ")
    assert " scores are 1: a curve needs a score that ranks" in message


def test_scores_of_few_digits_are_noticed():
    finding = scored(lambda s: round(s)).findings()["equal_scores"]
    assert finding.level.value == "warning"
    assert "lesions have the same score as false positives" in finding.message
