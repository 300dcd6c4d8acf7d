"""A study in time, by hand: two workers, five trials, one lost job."""

import pytest

from nodule_det.hpo.report.history import (
    Doing,
    best_so_far,
    busy_share,
    endings,
    last_seen_s,
    start_s,
    timeline,
)
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.objective import PAUC, Objective
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})
HOUR = 3600.0


class Hand:
    """Writes a study at times of our choosing, in hours."""

    def __init__(self, folder, objective=PAUC):
        self.now_h = 0.0
        folder.mkdir(exist_ok=True)
        header = Header(id="cafe", space=SPACE, objective=objective)
        self._writer = StudyWriter(StudyFolder(folder), lambda: 1000 + HOUR * self.now_h, header)
        self.study = self._writer.study
        self.close = self._writer.close

    def session(self, workers):
        self._writer.start_session(workers, "local")

    def at(self, hours):
        self.now_h = hours
        return self

    def ask(self, lr, source="random"):
        return self._writer.ask({"optim.lr": lr}, source)

    def submit(self, trial, attempt=1):
        name = self.study.header.job_name(trial, attempt)
        self._writer.write("intent", trial=trial, attempt=attempt, name=name)
        self._writer.write("submitted", trial=trial, attempt=attempt, job=f"{trial}.{attempt}")

    def start(self, trial, attempt=1):
        started_s = 1000 + HOUR * self.now_h
        self._writer.write("started", trial=trial, attempt=attempt, started_s=started_s)

    def lose(self, trial, attempt=1):
        self._writer.write("ended", trial=trial, attempt=attempt, reason="lost")

    def finish(self, trial, value=None, se=None, **fields):
        state = fields.pop("state", "failed" if value is None else "complete")
        self._writer.write("finished", trial=trial, state=state, value=value, value_se=se, **fields)


@pytest.fixture
def hand(tmp_path):
    hand = Hand(tmp_path)
    yield hand
    hand.close()


@pytest.fixture
def study(hand):
    """Trial 1 is lost and runs again, 2 diverges, 3 waits and completes, 4 runs, 5 is queued."""
    hand.session(2)
    hand.ask(1e-3), hand.submit(1), hand.start(1)
    hand.ask(1e-4), hand.submit(2), hand.start(2)
    hand.at(1).finish(2, reason="diverged", message="loss is nan")
    hand.ask(1e-5), hand.submit(3)
    hand.at(2).start(3)
    hand.lose(1)
    hand.submit(1, 2), hand.start(1, 2)
    hand.at(4).finish(3, value=0.5, se=0.01)
    hand.ask(2e-5), hand.submit(4), hand.start(4)
    hand.at(5).finish(1, value=0.4, se=0.01)
    hand.ask(3e-5), hand.submit(5)
    return hand.study


def test_the_best_rises_with_the_trials_that_end(study):
    rows = best_so_far(study)
    assert [(r.jobs, r.hours, r.trial.number) for r in rows] == [(1, 1, 2), (2, 4, 3), (3, 5, 1)]
    assert [r.best.number if r.best else None for r in rows] == [None, 3, 3]


def test_a_refused_trial_is_not_a_job(hand):
    hand.ask(1e-3), hand.finish(1, reason="refused", message="needs 40 GB")
    hand.ask(1e-4), hand.submit(2), hand.at(1).finish(2, value=0.3)
    assert [(r.jobs, r.trial.number) for r in best_so_far(hand.study)] == [(1, 2)]
    assert [(e.what, e.reason, e.message) for e in endings(hand.study)] == [
        ("failed", "refused", "needs 40 GB")
    ]


def test_values_below_zero_have_a_best_as_well(tmp_path):
    hand = Hand(tmp_path / "other", Objective("log_likelihood"))
    hand.ask(1e-3), hand.submit(1), hand.finish(1, value=-2.0)
    hand.ask(1e-4), hand.submit(2), hand.finish(2, value=-1.0)
    hand.close()
    assert [r.best.value for r in best_so_far(hand.study)] == [-2.0, -1.0]


def test_each_trial_takes_the_lowest_lane_that_is_free(study):
    spans = timeline(study, now_s=1000 + 6 * HOUR)
    assert [(s.lane, s.trial, s.doing, s.begin_h, s.end_h) for s in spans] == [
        (0, 1, Doing.WENT_ON, 0, 2),
        (0, 1, Doing.COMPLETE, 2, 5),
        (1, 2, Doing.FAILED, 0, 1),
        (1, 3, Doing.QUEUED, 1, 2),
        (1, 3, Doing.COMPLETE, 2, 4),
        (1, 4, Doing.RUNNING, 4, 6),
        (0, 5, Doing.QUEUED, 5, 6),
    ]


def test_the_busy_share_counts_jobs_that_ran_over_what_the_workers_had(study):
    now_s = 1000 + 6 * HOUR
    ran_h = 5 + 1 + 2 + 2
    assert busy_share(study, timeline(study, now_s), now_s) == pytest.approx(ran_h / (2 * 6))


def test_a_second_session_counts_with_its_own_workers(hand):
    hand.session(1)
    hand.ask(1e-3), hand.submit(1), hand.start(1)
    hand.at(3).session(4)
    hand.at(4).finish(1, value=0.5)
    now_s = 1000 + 4 * HOUR
    assert busy_share(hand.study, timeline(hand.study, now_s), now_s) == pytest.approx(4 / 7)


def test_endings_are_counted_by_reason_with_their_hours(study):
    lost, diverged = sorted(endings(study), key=lambda e: e.reason, reverse=True)
    assert (lost.what, lost.reason, lost.count, lost.node_h, lost.trial) == ("job", "lost", 1, 2, 1)
    assert (diverged.what, diverged.reason, diverged.count) == ("failed", "diverged", 1)
    assert diverged.message == "loss is nan"


def test_a_study_without_a_trial_has_no_time(hand):
    assert best_so_far(hand.study) == timeline(hand.study, 5.0) == endings(hand.study) == []
    assert busy_share(hand.study, [], 5.0) is None
    assert start_s(hand.study) == last_seen_s(hand.study) == 0.0


def test_the_last_record_of_a_trial_is_the_last_time(study):
    assert start_s(study) == 1000
    assert last_seen_s(study) == 1000 + 5 * HOUR


def test_results_of_another_study_are_no_jobs_of_this_one(hand):
    hand.ask(1e-3, source="imported")
    hand.finish(1, value=0.9)
    hand.ask(1e-4), hand.submit(2), hand.finish(2, value=0.3)
    assert [r.trial.number for r in best_so_far(hand.study)] == [2]
