"""Which trial starts next, submissions without an answer, and failures that end the driver."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.errors import ExitCode, StudyError
from nodule_det.hpo.dispatch.base import Refused
from nodule_det.hpo.simulate.dispatcher import Faults
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.inbox import enqueue
from nodule_det.hpo.study.trial import Reason, TrialState
from tests.hpo.virtual_lab import HOUR, SPACE, complete, failing


def test_a_lost_answer_does_not_start_a_job_twice(lab):
    made = lab(faults=Faults(answer_lost=frozenset({0, 3, 4}), never_arrived=frozenset({1, 7})))
    study = made.run()
    assert made.starts() == [1] * 12
    assert all(t.state is TrialState.COMPLETE and len(t.attempts) == 1 for t in study.trials)


def test_first_points_come_first_then_the_queue(lab):
    made = lab(trials=6, workers=1)
    first = ({"optim.lr": 0.003}, {"optim.lr": 0.004})
    made.space = replace(SPACE, first=first)
    enqueue(made.folder.queue, {"optim.lr": 0.005})
    study = made.run()
    assert [t.params["optim.lr"] for t in study.trials[:3]] == [0.005, 0.003, 0.004]
    assert [t.source for t in study.trials] == ["user", "first", "first", *["random"] * 3]
    assert list(made.folder.queue.iterdir()) == []


def test_a_budget_of_node_hours_ends_the_study(lab):
    study = lab(trials=1000, node_hours=10.0).run()
    assert 10 <= len(study.trials) <= 10 + 4
    assert not study.pending


SIX = parse_space({"parameters": {"optim.lr": {"kind": "int", "low": 1, "high": 6}}})
ALL_TRIED = "every point of the search space (6 in all) has been tried"


def sixth(overrides, attempt):
    """A training whose value is a tenth of its learning rate."""
    return complete({"optim.lr": 0.001 * overrides["optim.lr"]}, attempt)


def test_a_finite_space_ends_the_study_once_all_its_points_have_been_tried(lab):
    made = lab(sixth, trials=1000)
    made.space = SIX
    study = made.run()
    assert sorted(t.params["optim.lr"] for t in study.trials) == [1, 2, 3, 4, 5, 6]
    assert [text for text in made.said if text.startswith("every point")] == [ALL_TRIED]


@pytest.mark.parametrize("varies", [False, True])
def test_a_finite_space_is_searched_further_only_if_equal_points_vary(lab, varies):
    def train(overrides, attempt):
        run = sixth(overrides, attempt)
        noise = 0.01 * int(Path(overrides["run_dir"]).name) if varies else 0.0
        return replace(run, result=replace(run.result, pauc=run.result.pauc + noise))

    made = lab(train, trials=12, acquisition=AcquisitionConfig(draw_scales=False))
    made.space, made.propose = SIX, propose
    study = made.run()
    points = [t.params["optim.lr"] for t in study.trials]
    assert sorted(points[:6]) == [1, 2, 3, 4, 5, 6]
    assert points[6] == 6
    assert len(points) == (12 if varies else 7)
    waiting = f"{ALL_TRIED}; waiting for the running ones before one is repeated"
    same = f"{ALL_TRIED}, and a repetition gave the same value"
    said = [text for text in made.said if text.startswith("every point")]
    assert said == ([waiting] if varies else [waiting, same])


def test_a_job_that_appears_after_its_answer_was_lost_runs_once(lab):
    made = lab(trials=4, faults=Faults(late={0: 7000.0, 2: 90.0, 5: 300.0}))
    study = made.run()
    made.clock.sleep(2 * HOUR)
    made.batch.poll([])
    assert made.starts() == [1] * 4
    assert [(t.state, len(t.attempts)) for t in study.trials] == [(TrialState.COMPLETE, 1)] * 4


def test_a_job_that_appears_after_its_trial_was_cancelled_does_not_run(lab):
    made = lab(trials=1, faults=Faults(late={0: 600.0}))
    driver = made.start()
    driver.try_step()
    driver.stop_jobs()
    assert driver.run()
    assert made.study.trial(1).state is TrialState.CANCELLED
    made.clock.sleep(2 * HOUR)
    made.batch.poll([])
    assert made.starts() == []
    assert made.batch.busy_s == 0


def test_a_job_that_appears_after_its_attempt_was_lost_does_not_run_beside_the_next(lab):
    made = lab(trials=1, slots=1, faults=Faults(late={0: 2 * HOUR}))
    made.batch._queue_s = 900.0
    driver = made.start()
    made.clock.sleep(driver.try_step())
    driver.try_step()  # submitted again, since the batch system did not know it
    made.batch.cancel([made.study.trial(1).attempt.job])  # a person removes the waiting job
    assert driver.run()
    made.clock.sleep(4 * HOUR)
    made.batch.poll([])
    trial = made.study.trial(1)
    assert [a.reason for a in trial.attempts] == [Reason.LOST, None]
    assert made.batch.starts == {trial.attempts[1].name: 1}


def test_the_driver_waits_a_day_for_a_site_that_has_accepted_a_job_before(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    submit, shut = made.batch.submit, made.clock.monotonic() + 24 * HOUR

    def refuses(job):
        if made.clock.monotonic() < shut:
            raise Refused("sbatch: error: Job violates the maintenance reservation")
        return submit(job)

    made.batch.submit = refuses
    assert driver.run()
    assert [t.state for t in made.study.trials] == [TrialState.COMPLETE] * 2
    assert made.clock.monotonic() < 26.5 * HOUR
    again = lab(workers=1, trials=1)
    again.batch.submit = refuses
    shut = float("inf")
    with pytest.raises(Refused):  # the user has just started it
        again.run()


IN_A_ROW = "trainings failed with an error or vanished"


def test_a_wrong_setup_ends_the_study_after_three_failures(lab):
    made = lab(failing(ExitCode.BAD_INPUT, "bad_input"), workers=1, trials=100)
    with pytest.raises(StudyError, match=f"the last 3 {IN_A_ROW} and none"):
        made.run()
    assert len(made.study.trials) == 3


def test_a_node_that_fails_every_job_does_not_use_up_the_study(lab):
    def fails_later(overrides, attempt):
        number = int(overrides["run_dir"][-4:])
        return complete(overrides, attempt) if number <= 5 else bad(overrides, attempt)

    bad = failing(ExitCode.BAD_INPUT, "bad_input")
    made = lab(fails_later, workers=1, trials=100)
    with pytest.raises(StudyError, match=f"the last 10 {IN_A_ROW}: the setup"):
        made.run()
    assert len(made.study.trials) == 15


def test_jobs_that_all_vanish_end_the_driver_before_they_use_up_the_study(lab):
    made = lab(faults=Faults(crash_after={n: 0.001 for n in range(1000)}), workers=1, trials=100)
    with pytest.raises(StudyError, match=r"vanished and none .* Trial 3: lost, the job vanished"):
        made.run()
    assert [len(t.attempts) for t in made.study.trials] == [4] * 3


def test_the_reported_failure_is_the_last_counted_one(lab):
    def bad_then_large(overrides, attempt):
        number = int(overrides["run_dir"][-4:])
        reason = "out_of_memory" if number == 4 else "bad_input"
        code = ExitCode.OUT_OF_MEMORY if number == 4 else ExitCode.BAD_INPUT
        return replace(failing(code, reason)(overrides, attempt), seconds=60.0 * (5 - number % 4))

    made = lab(bad_then_large, workers=4, trials=100)
    with pytest.raises(StudyError, match="Trial 1: bad_input"):
        made.run()


def test_a_failure_that_a_full_disk_keeps_out_of_the_journal_is_counted_once(lab):
    made = lab(failing(ExitCode.BAD_INPUT, "bad_input"), workers=1, trials=1)
    driver = made.start()
    append, tries = made.writer._journal.append, iter(range(20))

    def full(record):
        if record["kind"] == "finished" and next(tries) < 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(record)

    made.writer._journal.append = full
    assert driver.run()
    assert driver.notes.failures == 1
