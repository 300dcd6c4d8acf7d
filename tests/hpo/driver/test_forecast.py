"""What a study says its trainings will take."""

import sys
from dataclasses import replace

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.config.train import Device, LimitConfig, TrainConfig
from nodule_det.errors import StudyError
from nodule_det.forecast.forecast import Rate
from nodule_det.hpo.driver.forecast import measured_rate, rate_of, study_lines
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
    one, two, three = study_lines(config, LR, [], Rate(1e10, 1e10, "a test"))
    assert one.startswith("a training: 5 epochs, 640 steps, 5,120 patches, each of 8 lesions seen")
    assert "(a test)" in two
    assert three.startswith("8 trainings, 2 at a time: about ")


def test_the_longest_of_a_wide_space_is_named(config):
    expected = study_lines(config, WIDTH, [], Rate(1e10, 1e10, "a test"))
    assert expected[2].startswith("the longest of this search space: ")


def test_a_rough_rate_is_used_until_trainings_are_complete(config):
    assert "(rough, assuming 20 GFLOP/s on 1 core)" in study_lines(config, LR, [])[1]
    done = [Trial(number=1, params={"optim.lr": 0.01}, state=TrialState.COMPLETE,
                  imported_seconds=90.0)]  # fmt: skip
    expected = study_lines(config, LR, done)
    assert "1:30 min (as fast as the 1 complete trainings of this study)" in expected[1]
    assert expected[2].startswith("7 trainings, 2 at a time: about ")
    assert rate_of(config, []) is None


def test_the_time_on_a_cluster_is_unknown_until_it_is_measured(config):
    site = DispatcherConfig(kind=DispatcherKind.pbs)
    expected = study_lines(replace(config, dispatcher=site), LR, [])
    assert "time unknown until it is measured" in expected[1]
    assert len(expected) == 2


def test_a_day_is_warned_of_for_the_middle_training_or_the_longest(config):
    assert (
        "warning: one training is forecast to take"
        in study_lines(config, LR, [], Rate(1e6, 1e6, "slow"))[-1]
    )
    middle = study_lines(config, WIDTH, [], Rate(1e10, 1e10, "x"))
    assert not any("warning" in line for line in middle)
    slow = study_lines(config, WIDTH, [], Rate(1.5e8, 1.5e8, "slow"))
    assert slow[-1].startswith("warning: ")


def test_a_training_that_would_not_finish_within_its_jobs_is_warned_of(config):
    site = DispatcherConfig(walltime_s=100, walltime_margin_s=10)
    limited = replace(config, dispatcher=site, retries=replace(config.retries, stopped=1))
    expected = study_lines(limited, LR, [], Rate(1e9, 1e9, "a test"))
    assert expected[-1].startswith("warning: one training is forecast to take ")
    assert "more than the 3:20 min of 2 jobs of dispatcher.walltime_s=100" in expected[-1]


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
