"""One simulated study: the same trainings for every strategy, with the real driver."""

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.simulate.functions import SCANS, Objective
from nodule_det.hpo.simulate.study import Plan, run_study, simulate
from nodule_det.hpo.space.space import point_key
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.study import read_study

RANDOM = AcquisitionConfig(strategy=Strategy.random)


def plan(**settings):
    return Plan(acquisition=RANDOM, jobs=24, **settings)


def test_sixteen_workers_get_the_same_trainings_as_one_and_finish_sooner():
    one, many = (
        simulate(Objective(0), propose_random, plan(workers=workers)) for workers in (1, 16)
    )
    assert sorted(r.value or 0 for r in one) == sorted(r.value or 0 for r in many)
    assert many[-1].hours < one[-1].hours / 4
    assert [r.jobs for r in many] == list(range(1, 25))
    assert np.all(np.diff([r.best for r in many]) >= 0)


def test_the_default_strategy_runs_a_study_and_repeats_no_point():
    chosen = []

    def noted(*args):
        chosen.append(propose(*args))
        return chosen[-1]

    settings = Plan(workers=8, jobs=24, acquisition=AcquisitionConfig())
    rows = simulate(Objective(0), noted, settings)
    assert len(rows) == 24
    assert len({point_key(p) for p in chosen}) == len(chosen) == 21  # and three first points


def test_a_simulated_study_has_the_files_of_a_real_one(tmp_path):
    study = run_study(Objective(0), propose_random, plan(workers=4), tmp_path)
    assert read_study(tmp_path).trials == study.trials
    assert len(study.trials) == 24
    done = [t for t in study.trials if t.value is not None]
    assert all(len(t.influence) == SCANS for t in done)
