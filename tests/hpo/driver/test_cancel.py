"""Trials that are cancelled: by the user, one or all of them."""

import pytest

from nodule_det.config.hpo import Failures
from nodule_det.hpo.dispatch.base import Unavailable
from nodule_det.hpo.driver.cancel import CANCEL_AGAIN_S
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.study.inbox import enqueue, enqueue_cancel
from nodule_det.hpo.study.trial import Reason, TrialState
from tests.hpo.virtual_lab import HOUR, SPACE


def test_stopping_cancels_all_jobs(lab):
    made = lab()
    driver = made.start()
    driver.try_step()
    driver.stop_jobs()
    assert driver.run()
    assert [(t.state, t.reason) for t in made.study.trials] == [
        (TrialState.CANCELLED, Reason.USER)
    ] * 4
    assert len(made.run().own) == 12 + 4  # what a person cancelled does not count


def test_a_user_cancels_one_trial_and_the_others_continue(lab):
    made = lab(workers=2, trials=4)
    driver = made.start()
    driver.try_step()
    path = enqueue_cancel(made.folder.queue, 2)
    assert driver.run()
    study = made.study
    assert not path.exists()
    assert (study.trial(2).state, study.trial(2).reason) == (TrialState.CANCELLED, Reason.USER)
    assert made.batch.busy_s == pytest.approx(4 * HOUR)
    assert [t.state for t in study.trials].count(TrialState.COMPLETE) == 4  # it did not count
    assert len(training_data(Features(SPACE), study.trials, Failures.model).outcomes) == 4


def test_a_trial_is_cancelled_by_the_next_driver_if_none_is_running(lab):
    made = lab(workers=2, trials=4)
    made.start().try_step()
    enqueue_cancel(made.folder.queue, 1)
    assert made.start().run()  # another session
    assert made.study.trial(1).reason is Reason.USER


def test_a_trial_that_waits_for_a_worker_is_cancelled_without_a_job(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    enqueue(made.folder.queue, {"optim.lr": 0.005})
    driver.try_step()
    assert made.study.trial(2).source == "user"
    enqueue_cancel(made.folder.queue, 2)
    assert driver.run()
    assert (made.study.trial(2).reason, made.study.trial(2).attempts) == (Reason.USER, ())


def test_cancelling_twice_counts_once_and_cancelling_a_finished_trial_is_reported(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    enqueue_cancel(made.folder.queue, 1)
    enqueue_cancel(made.folder.queue, 1)
    enqueue_cancel(made.folder.queue, 99)
    assert driver.run()
    enqueue_cancel(made.folder.queue, 2)
    driver.try_step()
    assert sum("cancelling trial 1 (user)" in line for line in made.said) == 1
    assert "trial 99 cannot be cancelled: it is not in this study" in made.said
    assert "trial 2 cannot be cancelled: it is already complete" in made.said


def test_waiting_points_survive_the_cancelling_of_all_jobs(lab):
    made = lab(workers=1, trials=2)
    driver = made.start()
    driver.try_step()
    enqueue(made.folder.queue, {"optim.lr": 0.005})
    driver.stop_jobs()
    assert driver.run()
    assert [t.state for t in made.study.trials] == [TrialState.CANCELLED, TrialState.PENDING]
    assert made.run().trial(2).state is TrialState.COMPLETE


def test_a_cancellation_without_an_answer_is_repeated_in_the_next_step(lab):
    made = lab(trials=1)
    driver = made.start()
    driver.try_step()
    cancel, calls = made.batch.cancel, []

    def away_at_first(ids):
        calls.append(list(ids))
        if len(calls) == 1:
            raise Unavailable("qdel: cannot connect to server pbs01 (errno=15010)")
        cancel(ids)

    made.batch.cancel = away_at_first
    driver.stop_jobs()
    driver.try_step()
    driver.try_step()
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_cancellations_are_sent_while_the_queue_is_full(lab):
    made = lab(workers=2, trials=2)
    submit = made.batch.submit

    def full(job):
        if len(made.batch.starts) == 1 and not made.study.trial(1).cancelling:
            raise Unavailable("qsub: would exceed queue generic's per-user limit")
        return submit(job)

    made.batch.submit = full
    driver = made.start()
    driver.try_step()
    enqueue_cancel(made.folder.queue, 1)
    assert driver.try_step() <= 60
    assert made.batch.busy_s == 0  # it had only just begun
    driver.try_step()
    assert made.study.trial(1).reason is Reason.USER


def test_a_cancellation_without_effect_is_repeated_after_five_minutes(lab):
    made = lab(trials=1)
    driver = made.start()
    driver.try_step()
    made.clock.next_event = lambda: None  # every wait counts, though nothing happens in it
    sent = []
    made.batch.cancel = lambda ids: sent.append(made.clock.monotonic()) or "qdel: not permitted"
    driver.stop_jobs()
    for _ in range(21):  # one step every 30 s
        made.clock.sleep(driver.try_step())
        assert made.study.trial(1).pending  # its worker is busy until the job is gone
    assert CANCEL_AGAIN_S == 300
    assert sent == [0.0, 300.0, 600.0]
    assert "jobs to be cancelled may still run: qdel: not permitted" in made.said
