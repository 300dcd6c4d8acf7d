import pytest

from nodule_det.config.hpo import Direction
from nodule_det.hpo.study.objective import PAUC, Constraint, Objective

LOSS = Objective("val.rmse", Direction.minimize)


def test_a_smaller_loss_has_the_larger_score():
    assert LOSS.score(2.0) < LOSS.score(1.0)
    assert LOSS.reported(LOSS.score(2.0)) == 2.0
    assert PAUC.score(0.7) == PAUC.reported(0.7) == 0.7


def test_a_pauc_and_its_ci_are_between_0_and_1():
    assert PAUC.bounds == (0.0, 1.0)
    assert PAUC.interval(0.9, 0.25) == (pytest.approx(0.9 - 1.96 * 0.25), 1.0)
    assert PAUC.text(0.9) == "0.9000"


def test_other_values_have_no_bounds_and_are_shown_as_reported():
    assert LOSS.interval(LOSS.score(10.0), 10.0) == (pytest.approx(-9.6), pytest.approx(29.6))
    assert LOSS.text(LOSS.score(1234.5)) == "1234.5"
    assert LOSS.text(LOSS.score(10.0), 10.0) == "10 [-9.6, 29.6]"


def test_titles_have_the_value_and_its_direction():
    assert PAUC.title == PAUC.title_with_direction == "pAUC"
    assert LOSS.title == "val.rmse"
    assert LOSS.title_with_direction == "val.rmse (smaller is better)"
    assert Objective("f1").title_with_direction == "f1 (larger is better)"


def test_a_constraint_is_violated_beyond_its_limits():
    both = Constraint("seconds", low=1.0, high=30.0)
    assert [both.violation(x) for x in (1.0, 30)] == ["", ""]
    assert both.violation(30.5) == "seconds=30.5 is above 30"
    assert both.violation(0.5) == "seconds=0.5 is below 1"
    assert both.as_dict() == {"name": "seconds", "max": 30.0, "min": 1.0}
    assert Constraint("n", low=0.0).as_dict() == {"name": "n", "min": 0.0}
