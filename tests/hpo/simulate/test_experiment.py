"""Many simulated studies: what is saved, and what is not simulated again."""

import pytest

from nodule_det.config.hpo import Strategy
from nodule_det.config.hpo_tools import SimulateConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.simulate import experiment
from nodule_det.hpo.simulate.study import Finished, Run
from nodule_det.hpo.study.trial import TrialState


def test_an_interrupted_simulation_keeps_what_is_done(tmp_path, monkeypatch):
    config = SimulateConfig(strategies=[Strategy.random], workers=[1, 2], jobs=6, repetitions=1)
    real, path = experiment.simulate_one, tmp_path / "runs.csv"

    def interrupted(task):
        if task[1][1] == 2:
            raise KeyboardInterrupt
        return real(task)

    monkeypatch.setattr(experiment, "simulate_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiment.simulate_all(config, path)
    kept = experiment.read_runs(path)
    assert [(r.workers, len(r.rows)) for r in kept] == [(1, 6)]
    monkeypatch.setattr(experiment, "simulate_one", real)
    assert experiment.simulate_all(config, path)[0] == kept[0]


def two_runs():
    rows = [
        Finished(1, 1.5, 1.5, TrialState.COMPLETE, 0.25, 0.25, 0.3),
        Finished(2, 2.0, 0.125, TrialState.FAILED, None, 0.25, 0.3),
    ]
    return [Run("random", 4, 7, 0, rows), Run("sobol", 1, 8, 1, rows[:1])]


def test_runs_are_read_back_as_written_including_a_failed_trial_without_a_value(tmp_path):
    path = tmp_path / "runs.csv"
    assert experiment.read_runs(path) == []
    experiment.write_runs(two_runs(), path)
    assert path.read_text().splitlines()[2] == "random,4,7,0,2,2.0,0.125,failed,,0.25,0.3"
    assert experiment.read_runs(path) == two_runs()


def test_a_folder_accepts_more_repetitions_but_not_longer_studies(tmp_path):
    path = tmp_path / "settings.json"
    experiment.check_settings(SimulateConfig(jobs=6, repetitions=1), path)
    before = path.read_bytes()
    experiment.check_settings(SimulateConfig(jobs=6, repetitions=9, workers=[2]), path)
    with pytest.raises(ConfigError, match=r"has studies with jobs=6 but jobs=7 was requested"):
        experiment.check_settings(SimulateConfig(jobs=7, repetitions=1), path)
    assert path.read_bytes() == before


def test_each_repetition_is_another_function_and_strategies_share_it():
    config = SimulateConfig(function=5, jobs=3)
    runs = [
        experiment.simulate_one((config, key))
        for key in [("random", 1, 0), ("sobol", 1, 0), ("random", 1, 2)]
    ]
    assert [run.function for run in runs] == [5, 5, 7]
    random, sobol, other = ([row.value for row in run.rows] for run in runs)
    assert random == sobol  # all three trials are first points, which strategies share
    assert random != other
