"""The simulated trainings: one function for each number, with the failures of real ones."""

import numpy as np

from nodule_det.hpo.simulate.functions import EPOCHS, Objective


def rng():
    return np.random.default_rng(0)


def test_each_number_is_a_different_function():
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


def test_no_random_point_beats_the_optimum():
    objective, draw = Objective(1), rng()
    points = [objective.space.sample(draw) for _ in range(3000)]
    assert 0.5 < objective.truth(points).max() < objective.optimum() < 1
