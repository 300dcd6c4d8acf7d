import pytest

from nodule_det.hpo.dispatch.base import JobReport, JobState, Unavailable
from nodule_det.hpo.dispatch.listing import WHY_AGAIN_POLLS, Listing

QUEUED, RUNNING = JobReport(JobState.QUEUED), JobReport(JobState.RUNNING)
GONE = JobReport(JobState.GONE, "over")


class Server:
    """Knows jobs, lists all but those in ``unlisted``, and counts the questions."""

    def __init__(self, jobs, *, reasons=False):
        self.jobs, self.unlisted, self.questions = dict(jobs), set(), []
        self.mute = False
        self.listing = Listing(self._list, self._one, reasons=reasons)
        self.ids = list(self.jobs)

    def _list(self):
        self.questions.append("list")
        return {i: r for i, r in self.jobs.items() if i not in self.unlisted and r is not GONE}

    def _one(self, job_id):
        self.questions.append(job_id)
        if self.mute:
            return None
        report = self.jobs[job_id]
        return JobReport(report.state, "why") if report is QUEUED else report

    def poll(self):
        return self.listing.poll(self.ids)


@pytest.mark.parametrize("n", [1, 16, 128])
def test_a_poll_is_one_query_whatever_happens_to_the_jobs(n):
    server = Server({f"{i}": RUNNING for i in range(n)}, reasons=True)
    server.poll()
    server.jobs |= {i: GONE for i in server.ids[::2]}
    polls = 1
    while sum(r.state is JobState.GONE for r in server.poll().values()) < len(server.ids[::2]):
        polls += 1
    polls += 1
    assert polls == 3
    assert len(server.questions) == polls


def test_one_answer_by_id_confirms_that_all_missing_jobs_have_ended():
    server = Server({"1": RUNNING, "2": GONE, "3": GONE})
    assert server.poll() == {"1": RUNNING}
    assert server.poll() == {"1": RUNNING, "2": GONE, "3": GONE}
    assert server.poll() == {"1": RUNNING, "2": GONE, "3": GONE}
    assert server.questions == ["list", "2", "list"]


def test_a_job_that_is_only_missing_from_the_list_is_not_reported_as_gone():
    server = Server({"1": RUNNING, "2": QUEUED})
    server.unlisted = {"1", "2"}  # such as by an answer that is empty
    for _ in range(10):
        assert JobState.GONE not in {r.state for r in server.poll().values()}
    assert server.questions == ["list", "1", "list", "2"] * 2 + ["list", "1"]


def test_an_empty_list_says_nothing_about_the_jobs_that_were_not_queried():
    server = Server({"1": GONE, "2": RUNNING, "3": QUEUED})
    server.unlisted = {"2", "3"}  # such as by a table that is not understood
    gone = [{i for i, r in server.poll().items() if r is GONE} for _ in range(8)]
    assert gone[0] == set()
    assert gone[1:] == [{"1"}] * 7


def test_when_all_jobs_have_ended_an_empty_list_counts_after_three_of_them():
    server = Server({f"{i}": GONE for i in range(128)})
    gone = [len(server.poll()) for _ in range(6)]
    assert gone == [0, 1, 1, 2, 2, 128]


def test_an_answer_that_does_not_mention_the_queried_job_counts_as_none():
    server = Server({"1": RUNNING})
    server.unlisted, server.mute = {"1"}, True
    assert server.poll() == {}
    with pytest.raises(Unavailable, match="answer does not mention job 1"):
        server.poll()


def test_an_ended_job_that_is_requeued_is_queued():
    server = Server({"1": GONE})
    server.poll()
    assert server.poll() == {"1": GONE}
    server.jobs["1"] = QUEUED
    assert server.poll() == {"1": QUEUED}


def test_the_reasons_of_waiting_jobs_are_queried_in_turn_and_kept():
    server = Server({"1": QUEUED, "2": QUEUED, "3": RUNNING}, reasons=True)
    for _ in range(6):
        server.poll()
    assert server.questions == ["list", "1", "list", "2", "list", "list"]
    assert [r.comment for r in server.poll().values()] == ["why", "why", ""]
    server.jobs["1"] = RUNNING
    for _ in range(WHY_AGAIN_POLLS):
        reports = server.poll()
    assert reports["1"] == RUNNING
    assert server.questions.count("2") == 2


def test_a_poll_without_jobs_sends_no_query():
    server = Server({})
    assert server.poll() == {}
    assert server.questions == []
