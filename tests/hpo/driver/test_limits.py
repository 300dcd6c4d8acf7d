"""Trials that are refused before submission: which ones, and the consequences."""

import pytest

from nodule_det.config.hpo import (
    AcquisitionConfig,
    DispatcherConfig,
    Failures,
    ForecastConfig,
    HpoConfig,
)
from nodule_det.config.train import ModelConfig, TrainConfig
from nodule_det.errors import StudyError
from nodule_det.hpo.driver.limits import ResourceLimits, needs_of, time_limit_s
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.inbox import enqueue
from nodule_det.hpo.study.trial import Attempt, Reason, Trial, TrialState
from nodule_det.hpo.view.summary import summarise
from tests.hpo.virtual_lab import HOUR, complete

FILTERS = parse_space(
    {
        "parameters": {
            "optim.lr": {"kind": "float", "low": 0.001, "high": 0.01},
            "model.filters": {"kind": "int", "low": 4, "high": 32, "step": 2},
        }
    }
)
SMALL, LARGE = {"model.filters": 4}, {"model.filters": 32}


def why_not(params, trials, config):
    return ResourceLimits(trials, config).why_not(params)


def study_config(memory_gb=0.0, **settings):
    site = DispatcherConfig(poll_s=30, grace_s=60, memory_gb=memory_gb)
    return HpoConfig(study="s", dispatcher=site, **settings)


def limit_between(config=None):
    """A memory in GB that the small network has at a margin of 1.5, and the large one has not."""
    config = config or study_config()
    small, large = (needs_of(p, config).memory_bytes / 1e9 for p in (SMALL, LARGE))
    assert small < large / 2
    return (small + large) / 2 / 1.5


def test_memory_far_over_the_limit_is_refused_with_the_limit():
    config = study_config(memory_gb=0.05)
    assert why_not(LARGE, [], config) == (
        f"predicted to need {needs_of(LARGE, config).memory_bytes / 1e9:.1f} GB of memory, "
        "over 1.5 times dispatcher.memory_gb=0.05"
    )


@pytest.mark.parametrize(
    "config",
    [
        study_config(),  # no limit is known
        study_config(memory_gb=0.05, forecast=ForecastConfig(refuse=False)),
        study_config(memory_gb=0.05, command=["my", "training"]),
        study_config(memory_gb=0.05, forecast=ForecastConfig(margin=100)),
        study_config(
            memory_gb=0.05, train=TrainConfig(model=ModelConfig(factory="my_package.my_net"))
        ),
    ],
)
def test_without_a_limit_nothing_is_refused(config):
    assert why_not(LARGE, [], config) is None


def trial(number, params, seconds):
    job = Attempt(number=1, name="a", intent_s=0, started_s=0.0, ended_s=seconds)
    return Trial(
        number=number, params=params, state=TrialState.COMPLETE, value=0.5, attempts=(job,)
    )


def test_measurements_override_predictions():
    config = study_config(memory_gb=0.05)
    assert why_not(LARGE, [trial(1, SMALL, 60.0)], config) is not None
    assert why_not(LARGE, [trial(1, LARGE, 60.0)], config) is None


def timed(config):
    """Complete trials of the smaller networks that took as long as their operations say."""
    sizes = [(f, b) for b in (2, 4) for f in (4, 6, 8, 10, 12, 14)]
    points = [{"model.filters": f, "optim.batch_size": b} for f, b in sizes]
    work = [needs_of(p, config).work[1] for p in points]
    return [
        trial(i, p, HOUR * w / work[0]) for i, (p, w) in enumerate(zip(points, work, strict=True))
    ]


def test_a_training_far_over_the_time_is_refused_once_times_are_known():
    config = study_config(forecast=ForecastConfig(hours=12))
    known = timed(config)
    assert max(t.seconds for t in known) < 20 * HOUR
    assert why_not(LARGE, known[:5], config) is None
    assert why_not(SMALL, known, config) is None
    why = why_not(LARGE, known, config)
    assert why.startswith("predicted to take ")
    assert why.endswith("over 1.5 times the 12:00:00 of forecast.hours=12")


def test_the_time_limit_of_a_trial_is_that_of_all_its_possible_jobs():
    site = DispatcherConfig(walltime_s=3600)
    limit_s, words = time_limit_s(HpoConfig(study="s", dispatcher=site))
    assert limit_s == 101 * HOUR
    assert words == "101 jobs of dispatcher.walltime_s=3600 (retries.stopped=100)"


def test_a_refused_trial_has_no_job_informs_the_model_and_does_not_count(lab):
    made = lab(
        trials=12, workers=3, dispatcher=DispatcherConfig(memory_gb=limit_between(), grace_s=60)
    )
    made.space = FILTERS
    for filters in range(8, 33, 2):
        enqueue(made.folder.queue, {"optim.lr": 0.005, "model.filters": filters})
    study = made.run()
    refused = [t for t in study.trials if t.reason is Reason.REFUSED]
    ran = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert len(refused) > 1
    assert len(ran) == 12
    assert made.starts() == [1] * 12
    assert max(t.params["model.filters"] for t in ran) < min(
        t.params["model.filters"] for t in refused
    )
    assert all(t.state is TrialState.FAILED and not t.attempts for t in refused)
    assert all("dispatcher.memory_gb" in t.message for t in refused)
    assert not any(made.folder.trial(t.number).exists() for t in refused)
    assert summarise(study, 0.0).failures == {"refused": len(refused)}
    assert any("failed: refused: predicted to need" in line for line in made.said)
    taught = training_data(Features(FILTERS), study.trials, Failures.model)
    assert (~taught.succeeded).sum() == len(refused)


def test_a_point_of_the_user_is_refused_as_well(lab):
    made = lab(
        trials=1, workers=1, dispatcher=DispatcherConfig(memory_gb=limit_between(), grace_s=60)
    )
    made.space = FILTERS
    enqueue(made.folder.queue, {"optim.lr": 0.005, "model.filters": 32})
    assert made.run().trial(1).reason is Reason.REFUSED


def test_a_space_with_no_point_within_the_limits_ends_the_driver(lab):
    made = lab(trials=5, dispatcher=DispatcherConfig(memory_gb=0.001))
    with pytest.raises(StudyError, match="the last 10 proposals were refused"):
        made.run()
    assert len(made.study.trials) == 10
    assert made.starts() == []


def test_a_driver_killed_before_a_refusal_refuses_after_its_restart(lab):
    made = lab(trials=1, workers=1, dispatcher=DispatcherConfig(memory_gb=limit_between()))
    made.space = FILTERS
    made.start()
    made.writer.ask({"optim.lr": 0.005, "model.filters": 32}, "random")
    study = made.run()
    assert study.trial(1).reason is Reason.REFUSED
    assert study.trials[-1].state is TrialState.COMPLETE


def wide_is_good(overrides, attempt):
    return complete({"optim.lr": overrides["model.filters"] / 3200}, attempt)


def test_the_model_learns_the_limits_and_stops_proposing_such_points(lab):
    from nodule_det.hpo.strategy.strategy import propose

    made = lab(
        wide_is_good,
        trials=14,
        workers=2,
        acquisition=AcquisitionConfig(),
        dispatcher=DispatcherConfig(memory_gb=limit_between(), grace_s=60),
    )
    made.space, made.propose = FILTERS, propose
    study = made.run()
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 14
    limits = ResourceLimits(study.trials, made.config)
    widest = max(t.params["model.filters"] for t in study.trials)
    assert not limits.allows({"model.filters": widest + 2})  # the edge is found


def test_a_strategy_without_the_argument_allowed_works_without_limits(lab):
    def propose(space, trials, config, rng):
        return space.sample(rng)

    made = lab(trials=3)
    made.propose = propose
    assert len(made.run().trials) == 3


def test_a_point_that_the_train_command_refuses_is_refused(lab):
    why = why_not({"model.filters": -1}, [], study_config(memory_gb=100))
    assert why.startswith("refused by the train command: model.filters=-1 must lie in ")
