"""The poster's experiment: equal conditions for all, virtual time, two figures."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from nodule_det.config.hpo import AcquisitionConfig, StoppingConfig, Strategy
from nodule_det.config.hpo_tools import SimulateConfig
from nodule_det.errors import ConfigError
from nodule_det.hpo.simulate import experiment
from nodule_det.hpo.simulate.functions import EPOCHS, Objective
from nodule_det.hpo.simulate.plots import best_at, draw_by_strategy, mean_curve, summary_rows
from nodule_det.hpo.simulate.study import Finished, Plan, Run, run_study, simulate
from nodule_det.hpo.space.space import point_key
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import TrialState

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


def run(*worth, strategy="random", workers=1, repetition=0):
    rows = [Finished(i, 2.0 * i, 1.0, TrialState.COMPLETE, w, w, w) for i, w in enumerate(worth, 1)]
    return Run(strategy, workers, 0, repetition, rows)


def test_the_mean_curve_by_hand():
    a, b = run(0.2, 0.4), run(0.4, 0.8)
    assert list(best_at(a, "hours", np.array([0.0, 1.9, 2.0, 5.0]))) == [0.0, 0.0, 0.2, 0.4]
    x, mean, error = mean_curve([a, b], "jobs")
    assert list(x) == [1.0, 2.0]
    assert list(mean) == pytest.approx([0.3, 0.6])
    assert error[-1] == pytest.approx(0.2)  # sd of 0.4 and 0.8 is 0.283, over the root of 2
    assert mean_curve([a, b], "hours")[0][-1] == 4.0


def test_the_posters_second_axis_is_jobs_over_workers():
    x, mean, _ = mean_curve([run(0.1, 0.2, 0.3, 0.4, workers=4)], "rounds")
    assert list(x) == [1 / 4, 2 / 4, 3 / 4, 1]
    assert list(mean) == [0.1, 0.2, 0.3, 0.4]


def test_the_summary_says_what_more_workers_lost_pair_by_pair():
    few = [run(0.5, repetition=0), run(0.7, repetition=1)]
    many = [run(0.4, repetition=0, workers=4), run(0.7, repetition=1, workers=4)]
    heading, one, four = summary_rows([*few, *many])
    row = dict(zip(heading, four, strict=True))
    assert (row["workers"], row["runs"], row["worth"]) == (4, 2, "0.5500")
    assert (row["loss"], row["loss_se"]) == ("0.0500", "0.0500")  # of 0.1 and 0
    assert dict(zip(heading, one, strict=True))["loss"] == "0.0000"


def test_each_panel_has_a_curve_for_each_number_of_workers():
    runs = [run(0.1, 0.2, strategy=s, workers=m) for s in ("nei", "random") for m in (1, 16)]
    figure = draw_by_strategy(runs, "jobs")
    assert [ax.get_title() for ax in figure.axes] == ["nei", "random"]
    assert [line.get_label() for line in figure.axes[0].lines] == ["M = 1", "M = 16", "random"]
    assert [line.get_label() for line in figure.axes[1].lines] == ["M = 1", "M = 16"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "M = 1", "M = 16", "random",
    ]  # fmt: skip


def simulate_by_command(folder, *words, code=0):
    command = [
        sys.executable,
        "-m",
        "nodule_det.hpo.simulate",
        f"out={folder}",
        "jobs=6",
        *words,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == code, run.stderr
    return run


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_draws_both_figures_goes_on_and_refuses_other_settings(tmp_path):
    folder = tmp_path / "s"
    simulate_by_command(folder, "strategies=[random]", "workers=[1]")
    first = (folder / "runs.csv").read_text()
    more = ["strategies=[random,sobol]", "workers=[1,4]", "processes=2"]
    done = simulate_by_command(folder, *more)
    assert "12 studies" in done.stdout
    assert len(read(folder / "runs.csv")) == 2 * 2 * 3 * 6
    assert (folder / "runs.csv").read_text().startswith(first)  # not simulated again
    for name in (
        "fig7_best_against_jobs", "fig8_best_against_jobs_per_worker", "best_against_hours",
        "strategies_against_jobs", "strategies_against_hours",
    ):  # fmt: skip
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert {r["axis"] for r in read(folder / "curves.csv")} == {"jobs", "rounds", "hours"}
    assert len(read(folder / "summary.csv")) == 2 * 2
    other = simulate_by_command(folder, "stopping.on=true", code=2)
    assert f"out={folder} holds studies with stopping={{'on': False" in other.stderr


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


def test_a_simulated_study_is_on_disk_what_a_real_one_is(tmp_path):
    study = run_study(Objective(0), propose_random, plan(workers=4), tmp_path)
    assert read_study(tmp_path).trials == study.trials
    assert len(study.trials) == 24


def test_no_strategy_is_refused():
    with pytest.raises(ConfigError, match="need at least one each"):
        SimulateConfig(strategies=[])


def test_the_strategy_of_a_single_study_is_refused_with_the_setting_that_is_meant():
    with pytest.raises(ConfigError, match=r"give strategies=\[random\]"):
        SimulateConfig(acquisition=RANDOM)
