"""The poster's experiment: equal conditions for all, virtual time, two figures."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from nodule_det.config.hpo import AcquisitionConfig, SimulateConfig, StoppingConfig, Strategy
from nodule_det.errors import ConfigError
from nodule_det.hpo.baselines import propose_random
from nodule_det.hpo.curves import best_at, mean_curve
from nodule_det.hpo.objectives import EPOCHS, Objective
from nodule_det.hpo.propose import propose
from nodule_det.hpo.simulation import Finished, Plan, Run, simulate
from nodule_det.hpo.space import point_key
from nodule_det.hpo.trial import TrialState

RANDOM = AcquisitionConfig(strategy=Strategy.random)


def rng():
    return np.random.default_rng(0)


def plan(**settings):
    settings.setdefault("stopping", StoppingConfig())
    return Plan(acquisition=RANDOM, jobs=24, **settings)


def test_a_number_is_a_function_and_another_one_another():
    points = [Objective(0).space.sample(rng()) for _ in range(5)]
    assert np.array_equal(Objective(0).truth(points), Objective(0).truth(points))
    assert not np.array_equal(Objective(0).truth(points), Objective(1).truth(points))


def test_simulated_trainings_succeed_run_out_of_memory_and_diverge():
    objective, draw = Objective(3), rng()
    runs = [objective.train(objective.space.sample(draw), draw) for _ in range(200)]
    assert {r.result.reason for r in runs} == {None, "out_of_memory", "diverged"}
    good = [r for r in runs if r.result.reason is None]
    assert all(r.result.pauc == max(o.value for o in r.curve) for r in good)
    assert all(r.curve[-1].epoch == EPOCHS for r in good)


def test_the_optimum_is_not_beaten_by_chance():
    objective, draw = Objective(1), rng()
    points = [objective.space.sample(draw) for _ in range(3000)]
    assert 0.5 < objective.truth(points).max() < objective.optimum() < 1


def test_sixteen_workers_see_the_same_trainings_as_one_and_are_sooner_done():
    one, many = (
        simulate(Objective(0), propose_random, plan(workers=workers)) for workers in (1, 16)
    )
    assert sorted(r.value or 0 for r in one) == sorted(r.value or 0 for r in many)
    assert many[-1].hours < one[-1].hours / 4
    assert [r.jobs for r in many] == list(range(1, 25))
    assert np.all(np.diff([r.best for r in many]) >= 0)


def test_the_default_strategy_drives_a_study_and_repeats_no_point():
    chosen = []

    def noted(*args):
        chosen.append(propose(*args))
        return chosen[-1]

    settings = Plan(workers=8, jobs=24, acquisition=AcquisitionConfig(), stopping=StoppingConfig())
    rows = simulate(Objective(0), noted, settings)
    assert len(rows) == 24
    assert len({point_key(p) for p in chosen}) == len(chosen) == 21  # and three first points


def test_stopping_early_saves_node_hours():
    stopping = StoppingConfig(on=True)
    whole, stopped = (
        sum(r.node_hours for r in simulate(Objective(0), propose_random, plan(**settings)))
        for settings in ({}, {"stopping": stopping})
    )
    assert stopped < 0.9 * whole


def test_the_mean_curve_by_hand():
    def run(*worth):
        rows = [
            Finished(i, 2.0 * i, 1.0, TrialState.COMPLETE, w, w, w) for i, w in enumerate(worth, 1)
        ]
        return Run("random", 1, 0, 0, rows)

    a, b = run(0.2, 0.4), run(0.4, 0.8)
    assert list(best_at(a, "hours", np.array([0.0, 1.9, 2.0, 5.0]))) == [0.0, 0.0, 0.2, 0.4]
    x, mean, error = mean_curve([a, b], "jobs")
    assert (x[-1], mean[-1]) == pytest.approx((2.0, 0.6))
    assert error[-1] == pytest.approx(0.2)  # sd of 0.4 and 0.8 is 0.283, over the root of 2


def test_the_command_draws_both_figures_and_writes_every_job(tmp_path):
    words = ["strategies=[random,sobol]", "workers=[1,4]", "repetitions=2", "jobs=6"]
    command = [sys.executable, "-m", "nodule_det.hpo.simulate", f"out={tmp_path}/s", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
    with (tmp_path / "s" / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 6
    for name in ("best_against_jobs.png", "best_against_hours.png"):
        assert (tmp_path / "s" / name).read_bytes()[:4] == b"\x89PNG"


def test_no_strategy_is_refused():
    with pytest.raises(ConfigError, match="need at least one each"):
        SimulateConfig(strategies=[])
