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


def test_trainings_share_their_scans_and_report_how_much_each_pulls():
    objective, draw = Objective(5), rng()
    points = [objective.space.sample(draw) for _ in range(400)]
    points = [p for p in points if objective.truth([p])[0] > 0.2]
    results = [objective.train(p, draw).result for p in points]
    pulls = np.array([list(r.pauc_influence.values()) for r in results])
    covariance = pulls @ pulls.T
    sd = np.sqrt(np.diag(covariance))
    correlation = (covariance / np.outer(sd, sd))[np.triu_indices(len(sd), 1)]
    assert abs(correlation.mean() - 0.9) < 0.02  # 3^2 / (3^2 + 1)
    assert np.allclose(sd, [r.pauc_se for r in results], rtol=0.5)
    # Differences of errors are as large as the influences say, up to the luck of the best epoch.
    errors = np.array([r.pauc for r in results]) - objective.truth(points)
    pairs = zip(range(0, len(sd) - 1, 2), range(1, len(sd), 2), strict=False)
    z = [(errors[i] - errors[j]) / np.linalg.norm(pulls[i] - pulls[j]) for i, j in pairs]
    assert 0.8 < np.sqrt(np.mean(np.square(z))) < 1.25
