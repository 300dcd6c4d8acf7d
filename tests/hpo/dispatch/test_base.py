"""The contract of every batch system with the driver, tested on each of them.

``pbs`` runs on a stand-in that answers like a real server.  ``slurm`` and ``slurm_qsub`` (Slurm's
own qsub, qstat and qdel) run on a real Slurm.
"""

import shlex
import time

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind
from nodule_det.hpo.dispatch import job_script, make_dispatcher
from nodule_det.hpo.dispatch.base import Job, JobState
from nodule_det.hpo.driver.clock import VirtualClock
from nodule_det.hpo.simulate.dispatcher import FakeDispatcher, FakeRun
from nodule_det.hpo.training.files import read_claim, read_exit
from nodule_det.runs import RunResult, RunStatus

REAL = ["local", "pbs", "pbs_history", "slurm", "slurm_qsub"]
SLEEPER = """trap 'exit 85' TERM
touch "$(dirname "$0")/ready"
for _ in $(seq 300); do sleep 0.1; done
"""


class Real:
    """A batch system that runs processes, in real time."""

    def __init__(self, dispatcher, tmp_path, name):
        self.dispatcher, self.tmp_path, self.name = dispatcher, tmp_path, name

    def job(self, number, script):
        study = {"pbs": "my study (1)", "pbshistory": "my study (1)", "slurmqsub": "study"}
        study = study.get(self.name, "Jürgens 'study', 肺")
        folder = self.tmp_path / study / f"{number:04d}" / "attempt_1"
        folder.mkdir(parents=True)
        (folder / "job.sh").write_text(script)
        return Job(f"nd-{self.name}{time.time_ns()}-{number}-1", folder)

    def until(self, condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "nothing happened in half a minute"
            time.sleep(0.05)

    def ready(self, job):
        """Whether a SLEEPER is at work: its claim comes before its trap."""
        return (job.folder / "ready").exists()

    def state(self, job_id):
        report = self.dispatcher.poll([job_id]).get(job_id)
        return report and report.state


class Fake(Real):
    """The same in virtual time."""

    def __init__(self, tmp_path):
        self.clock = VirtualClock()
        super().__init__(FakeDispatcher(self.clock, self.training), tmp_path, "fake")

    def job(self, number, script):
        job = super().job(number, script)
        (job.folder.parent / "overrides.txt").write_text(f"script={'sleep' in script}\n")
        return job

    def ready(self, job):
        return read_claim(job.folder) is not None

    def training(self, overrides, attempt):
        seconds = 30.0 if overrides["script"] else 1.0
        return FakeRun(seconds=seconds, result=RunResult(status=RunStatus.FAILED), code=3)

    def until(self, condition):
        for _ in range(1000):
            if condition():
                return
            self.clock.sleep(0.1)
        raise AssertionError("nothing happened in the virtual time given")


@pytest.fixture(params=["fake", *REAL])
def system(request, tmp_path):
    name = request.param
    if name == "fake":
        return Fake(tmp_path)
    if name.startswith("slurm"):
        request.getfixturevalue(name)
    if name.startswith("pbs"):
        home = request.getfixturevalue("pbs_standin")
        if name == "pbs_history":
            (home / "history").touch()
    kind = {"local": "local", "slurm": "slurm"}.get(name, "pbs")
    config = DispatcherConfig(
        kind=DispatcherKind(kind), walltime_s=600, join_resources=name == "slurm_qsub"
    )
    return Real(make_dispatcher(config), tmp_path, name.replace("_", ""))


def test_a_cluster_or_server_reports_its_name_if_it_has_one(system):
    names = {"pbs": "pbs01", "pbshistory": "pbs01", "slurm": "lab"}
    assert system.dispatcher.place() == names.get(system.name, "")


def test_a_job_runs_once_and_leaves_its_exit_code(system):
    job = system.job(1, "exit 3\n")
    job_id = system.dispatcher.submit(job)
    system.until(lambda: read_exit(job.folder) is not None)
    assert read_exit(job.folder).code == 3
    assert system.dispatcher.same_job(read_claim(job.folder).job, job_id)
    system.until(lambda: system.state(job_id) is JobState.GONE)
    assert read_claim(job.folder).started_s <= read_exit(job.folder).ended_s


def test_a_job_is_found_by_its_name(system):
    job = system.job(1, SLEEPER)
    assert system.dispatcher.find(job) is None
    job_id = system.dispatcher.submit(job)
    # A process that is just turning into another program has no name for a moment.
    system.until(lambda: system.dispatcher.find(job) is not None)
    assert system.dispatcher.same_job(system.dispatcher.find(job), job_id)
    system.dispatcher.cancel([job_id])


def test_one_poll_distinguishes_running_ended_and_cancelled_jobs(system):
    ended, running, cancelled = jobs = [
        system.job(1, "exit 0\n"),
        system.job(2, SLEEPER),
        system.job(3, SLEEPER),
    ]
    ids = [system.dispatcher.submit(job) for job in jobs]
    system.until(lambda: system.state(ids[1]) is system.state(ids[2]) is JobState.RUNNING)
    system.until(lambda: read_claim(ended.folder) and all(map(system.ready, (running, cancelled))))
    system.dispatcher.cancel([ids[2]])
    system.until(lambda: system.state(ids[2]) is JobState.GONE)
    system.until(lambda: system.state(ids[0]) is JobState.GONE)
    states = [r.state for r in map(system.dispatcher.poll(ids).get, ids)]
    assert states == [JobState.GONE, JobState.RUNNING, JobState.GONE]
    assert read_exit(running.folder) is None
    if system.name != "fake":  # it had the time to save a checkpoint
        assert read_exit(cancelled.folder).code == 85
    system.dispatcher.cancel([ids[1]])
    system.until(lambda: system.state(ids[1]) is JobState.GONE)


def test_cancelling_an_ended_job_is_not_an_error(system):
    job = system.job(1, "exit 0\n")
    job_id = system.dispatcher.submit(job)
    system.until(lambda: system.state(job_id) is JobState.GONE)
    system.dispatcher.cancel([job_id])


def test_a_poll_without_ids_sends_no_query(system):
    assert system.dispatcher.poll([]) == {}
    system.dispatcher.cancel([])


@pytest.mark.parametrize("system", REAL, indirect=True)  # the fake has no job script to try
def test_a_folder_that_was_submitted_twice_runs_once(system):
    job = system.job(1, "")
    starts = shlex.quote(str(job.folder / "starts"))
    job.script.write_text(f"echo run >> {starts}; sleep 0.3\n")
    ids = [system.dispatcher.submit(job) for _ in range(2)]
    for job_id in ids:
        system.until(lambda job_id=job_id: system.state(job_id) is JobState.GONE)
    system.until(lambda: read_exit(job.folder) is not None)
    assert (job.folder / "starts").read_text() == "run\n"


def test_the_preview_names_the_folder_and_the_script(system):
    job = system.job(1, "exit 0\n")
    words = system.dispatcher.preview(job)
    assert str(job.folder) in (words if system.name == "fake" else " ".join(shlex.split(words)))
    if system.name != "fake":
        assert str(job_script()) in words
