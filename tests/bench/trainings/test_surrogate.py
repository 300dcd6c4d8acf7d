"""Predictions from a table of trainings, on rows whose answers are known."""

import numpy as np
import pytest

from bench.trainings import make, surrogate
from nodule_det import froc
from nodule_det.hpo.space.parsing import read_space
from nodule_det.runs import RunStatus

SCANS = [[2, [900, 400], [500]], [1, [800], []], [2, [300], [700, 200]], [0, [], []]]
"""Scores, highest first: found .9, .8 before a false positive (.7), then .5, .4, .3, .2."""


def rows(n=64):
    """Return trainings whose value only depends on the learning rate; high ones fail."""
    made = []
    for point in make.points(read_space(str(make.SPACE)), n):
        lr = point.params["optim.lr"]
        value = None if lr > 0.2 else 0.7 - 0.1 * abs(np.log10(lr) + 3)
        made.append(
            {
                "number": point.number,
                "kind": point.kind,
                "params": point.params,
                "value": value and value + 0.02 * (point.kind == "repeat"),
                "outcome": "diverged" if value is None else "complete",
                "curve": [[2, 0.1, 0.05], [4, 0.2, 0.05]],
                "scans": SCANS,
                "cpu_s": 10.0 + point.params["model.filters"],
                "peak_mib": 500 + point.params["model.filters"],
            }
        )
    return made


@pytest.fixture(scope="module")
def table():
    return surrogate.Table(rows())


def test_the_scores_of_a_row_give_its_pauc_again():
    found = surrogate.matched(SCANS)
    # false positives per scan: .9, .8 at 0; .4 beyond 2/4; .3 beyond 2/4; one lesion is missed
    expected = (2 + 2 * (1 - 0.5 / 5)) / 5
    assert froc.pauc(froc.froc_curve(found)) == pytest.approx(expected)


def test_the_pulls_of_the_scans_sum_to_nothing():
    pulls = surrogate.influence(SCANS)
    assert pulls.shape == (4,)
    assert pulls.sum() == pytest.approx(0)
    assert pulls[1] > 0 > pulls[2]  # all found without a false positive, and the contrary


def test_a_prediction_is_an_average_of_rows(table):
    weights = table.weights(table.x)
    np.testing.assert_allclose(table.average(table.x, table.value), weights @ table.value)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert np.all(weights >= 0)


def test_repeats_give_the_noise_of_a_seed(table):
    assert table.seed_sd == pytest.approx(
        0.02 / 0.6745 / np.sqrt(2)
    )  # half of a normal is within 0.6745 sd


def test_settings_that_fail_in_the_table_fail_and_good_ones_score_more(table):
    problem = surrogate.Trainings(0, table)
    point = {**rows(1)[0]["params"], "model.filters": 4}
    good, poor, fast = (point | {"optim.lr": lr} for lr in (1e-3, 3e-6, 0.9))
    truth = problem.truth([good, poor, fast])
    assert truth[0] > truth[1] > truth[2] == 0
    rng = np.random.default_rng(0)
    assert problem.train(fast, rng).result.reason == "diverged"
    run = problem.train(good, rng)
    assert run.result.status is RunStatus.COMPLETE
    assert run.result.pauc_se == pytest.approx(np.linalg.norm(surrogate.influence(SCANS)))
    assert [o.epoch for o in run.curve] == [2, 4]
    assert run.curve[-1].value == pytest.approx(run.result.pauc)


def test_the_largest_networks_are_out_of_memory(table):
    problem = surrogate.Trainings(0, table)
    large = {**rows(1)[0]["params"], "optim.lr": 1e-3, "model.filters": 8}
    small = large | {"model.filters": 2}
    made = surrogate.Table([r | {"peak_mib": 500 + 400 * (r["params"]["model.filters"] == 8)}
                            for r in rows()])  # fmt: skip
    problem = surrogate.Trainings(0, made)
    problem._memory_mib = 700
    assert problem.truth([small])[0] > 0 == problem.truth([large])[0]


def test_another_number_is_another_validation_set(table):
    points = [row["params"] for row in rows(8)]
    first, again, other = (surrogate.Trainings(n, table).truth(points) for n in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=0.001)


def test_settings_are_predicted_from_the_others():
    figures = surrogate.cross_validated(rows(), folds=4)
    assert figures["rank correlation of values"] > 0.8
    assert figures["of CPU seconds"] > 0.9


def test_the_table_of_the_repository_is_complete_and_its_values_follow_from_its_scans():
    stored = surrogate.read_rows(surrogate.TABLE)
    planned = make.points(read_space(str(make.SPACE)), len(stored))
    assert len(stored) >= 300
    for row, point in zip(stored, planned, strict=True):
        assert (row["number"], row["params"]) == (point.number, point.params)
    found = [froc.pauc(froc.froc_curve(surrogate.matched(row["scans"]))) for row in stored]
    errors = np.abs(found - np.array([row["value"] for row in stored]))
    assert np.quantile(errors, 0.95) < 0.01  # a few have scores that only differ below 0.001
