"""What a study says its trainings will take."""

import sys
from dataclasses import replace

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.config.train import Device, LimitConfig, TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.forecast.forecast import Rate
from nodule_det.hpo.driver import forecast as driver_forecast
from nodule_det.hpo.driver.forecast import Plan, measured_rate, rate_of, require_time, study_lines
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.trial import Trial, TrialState
from tests.train.tiny_run import WORDS

LR = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 0.001, "high": 0.1}}})
WIDTH = parse_space({"parameters": {"model.filters": {"kind": "int", "low": 4, "high": 64}}})


@pytest.fixture
def config(three_folds):
    train = TrainConfig(store=str(three_folds), device=Device.cpu, limits=LimitConfig(epochs=5))
    return HpoConfig(study="s", trials=8, workers=2, train=train)


def test_a_study_says_what_a_training_does_and_what_all_take(config):
    one, two, three = study_lines(config, LR, [], rate=Rate(1e10, 1e10, "a test"))
    assert one.startswith("a training: 5 epochs, 640 steps, 5,120 patches, each of 8 lesions seen")
    assert "(a test)" in two
    assert three.startswith("8 trainings, 2 at a time: about ")


def test_the_longest_of_a_wide_space_is_named(config):
    expected = study_lines(config, WIDTH, [], rate=Rate(1e10, 1e10, "a test"))
    assert expected[2].startswith("the longest of this search space: ")


def test_a_rough_rate_is_used_until_trainings_are_complete(config):
    assert "(rough, assuming 20 GFLOP/s on 1 core)" in study_lines(config, LR, [])[1]
    done = [Trial(number=1, params={"optim.lr": 0.01}, state=TrialState.COMPLETE,
                  imported_seconds=90.0)]  # fmt: skip
    expected = study_lines(config, LR, done)
    assert "1:30 min (as fast as the complete training of this study)" in expected[1]
    assert expected[2].startswith("7 trainings, 2 at a time: about ")
    assert rate_of(config.train, []) is None


def test_the_time_on_a_cluster_is_unknown_until_it_is_measured(config):
    site = DispatcherConfig(kind=DispatcherKind.pbs)
    expected = study_lines(replace(config, dispatcher=site), LR, [])
    assert "time unknown (nodule-det train with dry_run=true measures it" in expected[1]
    assert len(expected) == 2


def test_a_day_is_warned_of_for_the_middle_training_or_the_longest(config):
    assert (
        "warning: one training is forecast to take"
        in study_lines(config, LR, [], rate=Rate(1e6, 1e6, "slow"))[-1]
    )
    middle = study_lines(config, WIDTH, [], rate=Rate(1e10, 1e10, "x"))
    assert not any("warning" in line for line in middle)
    slow = study_lines(config, WIDTH, [], rate=Rate(1.5e8, 1.5e8, "slow"))
    assert slow[-1].startswith("warning: ")


def test_a_training_that_would_not_finish_within_its_jobs_is_warned_of(config):
    site = DispatcherConfig(walltime_s=100, walltime_margin_s=10)
    limited = replace(config, dispatcher=site, retries=replace(config.retries, stopped=1))
    expected = study_lines(limited, LR, [], rate=Rate(1e9, 1e9, "a test"))
    assert expected[-1].startswith("warning: one training is forecast to take ")
    assert "more than the 3:20 min of 2 jobs of dispatcher.walltime_s=100" in expected[-1]


def jobs(config, walltime_s, stopped=0):
    """Return a study in jobs of limited time, of which half a minute is kept for the checkpoint."""
    site = DispatcherConfig(walltime_s=walltime_s, walltime_margin_s=30)
    return replace(config, dispatcher=site, retries=replace(config.retries, stopped=stopped))


def seconds_of_one(config, rate):
    total = study_lines(replace(config, trials=1, workers=1), LR, [], rate=rate)[2]
    return float(total.split(", ")[-1].split()[0]) * 3600  # "..., 0.5 CPU hours"


SLOW = Rate(1e8, 1e8, "a test")
"""A training of the fixture then takes 1.4 hours."""


def test_a_training_that_takes_several_jobs_is_said_to_resume(config):
    took = seconds_of_one(config, SLOW)
    half = jobs(config, took / 2 + 30 + 100, stopped=5)  # 100 s more than half
    expected = study_lines(half, LR, [], rate=SLOW)
    assert "8 trainings, 2 at a time: about " in expected[2]
    assert ", 16 jobs, " in expected[2]
    assert expected[-1].startswith("warning: one training is forecast to take ")
    assert expected[-1].endswith("it will resume from its checkpoint and take 2 jobs")
    require_time(half, LR, [], rate=SLOW)


def test_a_search_whose_smallest_training_cannot_finish_is_refused(config):
    once = jobs(config, seconds_of_one(config, SLOW) / 2)
    with pytest.raises(ConfigError, match="so it would never finish") as no:
        require_time(once, LR, [], rate=SLOW)
    assert str(no.value).startswith("the smallest training of this search space is forecast to ")
    assert "(a test), more than the" in str(no.value)
    assert "1 job of dispatcher.walltime_s=" in str(no.value)
    fast = Rate(1e9, 1e9, "a test")
    require_time(once, WIDTH, [], rate=fast)  # the narrow networks can finish


def test_a_plan_is_refused_if_one_of_its_trainings_cannot_finish(config):
    once = jobs(config, 600)
    plan = Plan("crossval", points=[{"model.filters": 4}, {"model.filters": 64}])
    with pytest.raises(ConfigError, match=r"^one training is forecast to take"):
        require_time(once, WIDTH, [], plan, Rate(1e9, 1e9, "a test"))


def test_a_rough_forecast_is_measured_before_it_refuses(config, three_folds, monkeypatch):
    measured = []
    monkeypatch.setattr(driver_forecast, "measured_rate", lambda words: measured.append(words))
    require_time(jobs(config, 1e6), LR, [])  # enough even for a rough guess
    assert not measured
    require_time(jobs(config, 31), LR, [])
    (words,) = measured
    assert f"store={three_folds}" in words


def test_the_times_of_a_plan_are_summed_over_its_own_trainings(config):
    points = [{"model.filters": 16}, {"model.filters": 4}, {"model.filters": 4}]
    one = study_lines(config, WIDTH, [], Plan("crossval", points[:1]), SLOW)
    assert one[2].startswith("1 training, 2 at a time: about ")
    rest = study_lines(config, WIDTH, [complete(points[0])], Plan("crossval", points), SLOW)
    assert rest[-1].startswith("2 trainings, 2 at a time: about ")


def complete(params, seconds=90.0):
    return Trial(number=1, params=params, state=TrialState.COMPLETE, imported_seconds=seconds)


def test_the_trainings_of_another_study_say_how_fast_the_system_is(config):
    rate = rate_of(config.train, [complete({"optim.lr": 0.01})])
    expected = study_lines(config, LR, [], Plan("hpo.finish", [{"optim.lr": 0.02}], rate))
    assert "1:30 min (as fast as the complete training of this study)" in expected[1]


def test_another_program_is_not_forecast(config):
    assert study_lines(replace(config, command=["bash", "a.sh"]), LR, []) == []


def test_the_command_of_a_trial_is_measured_here(three_folds):
    words = [sys.executable, "-m", "nodule_det.train", f"store={three_folds}", *WORDS]
    rate = measured_rate([*words, "run_dir=nowhere"])
    assert rate.training > 0
    assert rate.source == "measured in 20 steps on this machine"


def test_a_command_that_fails_says_why(tmp_path):
    words = [sys.executable, "-m", "nodule_det.train", f"store={tmp_path}", "run_dir=nowhere"]
    with pytest.raises(StudyError, match=r"the training could not be measured: store=.* is not a"):
        measured_rate(words)
