"""Whole studies on a real Slurm, natively and through its qsub: timed out, cancelled, killed."""

import re
import subprocess
import time
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig, DispatcherKind, HpoConfig
from nodule_det.errors import DispatchError
from nodule_det.hpo.dispatch import job_script, make_dispatcher
from nodule_det.hpo.dispatch.base import Job, JobReport, JobState, Refused, Unavailable
from nodule_det.hpo.dispatch.slurm import SlurmDispatcher
from nodule_det.hpo.driver.clock import WallClock
from nodule_det.hpo.driver.context import DriverContext
from nodule_det.hpo.driver.driver import Driver
from nodule_det.hpo.driver.open_study import new_header, open_study
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.study import StudyFolder, read_study
from nodule_det.hpo.study.trial import Reason, TrialState
from tests.hpo.dispatch.recordings import Recording


@pytest.mark.parametrize(
    ("reason", "never_runs", "held"),
    [
        *((reason, True, False) for reason in ("InvalidAccount", "InvalidQOS", "BadConstraints")),
        ("DependencyNeverSatisfied", True, False),
        ("PartitionTimeLimit", True, False),
        ("QOSMaxWallDurationPerJobLimit", True, False),
        ("QOSMaxCpuPerJobLimit", True, False),
        ("QOSMaxGRESPerJob", True, False),
        ("QOSMaxMemoryPerNode", True, False),
        ("QOSMinGRES", True, False),
        ("AssocMaxWallDurationPerJobLimit", True, False),
        ("AssocMaxCpuPerJobLimit", True, False),
        ("JobHeldUser", False, True),
        ("JobHeldAdmin", False, True),
        ("launch failed requeued held", False, True),
        *((reason, False, False) for reason in ("Resources", "Priority", "Dependency", "None")),
        ("QOSMaxJobsPerUserLimit", False, False),  # passes once another job of the user ends
        ("QOSMaxCpuPerUserLimit", False, False),
        ("AssocGrpCPUMinutesLimit", False, False),
        ("AssocMaxJobsLimit", False, False),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", False, False),
    ],
)
def test_the_reason_of_a_waiting_job_shows_whether_waiting_helps(replay, reason, never_runs, held):
    replay("squeue", Recording("", 0, f"7|PENDING|{reason}\n", ""))
    slurm = SlurmDispatcher(DispatcherConfig(kind=DispatcherKind.slurm), job_script())
    report = JobReport(JobState.QUEUED, reason, never_runs=never_runs, held=held)
    assert slurm.poll(["7"]) == {"7": report}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("Requested node configuration is not available", Refused),
        ("Invalid generic resource (gres) specification", Refused),
        ("Invalid account or account/partition combination specified", Refused),
        ("Required partition not available (inactive or drain)", Unavailable),
        ("Required node not available (down, drained or reserved)", Unavailable),
        ("Requested partition configuration not available now", Unavailable),
        ("Unable to contact slurm controller (connect failure)", Unavailable),
        ("Socket timed out on send/recv operation", Unavailable),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
         Unavailable),
    ],
)  # fmt: skip
def test_a_permanent_refusal_of_sbatch_is_distinguished_from_a_temporary_one(
    replay, message, error
):
    """The messages are those of Slurm's table of errors (slurm_errno.c)."""
    failed = f"sbatch: error: Batch job submission failed: {message}\n"
    replay("sbatch", Recording("", 1, "", failed))
    slurm = SlurmDispatcher(DispatcherConfig(kind=DispatcherKind.slurm, timeout_s=5), job_script())
    with pytest.raises(DispatchError, match=re.escape(message)) as caught:
        slurm.submit(Job("nd-f96f59-1-1", Path("/study/trials/0001/attempt_1")))
    assert caught.type is error


@pytest.fixture(params=["slurm", "slurm_qsub"])
def site(request):
    """Return the settings of a dispatcher that talks to the Slurm of this module."""
    request.getfixturevalue(request.param)
    native = request.param == "slurm"
    return DispatcherConfig(
        kind=DispatcherKind.slurm if native else DispatcherKind.pbs,
        join_resources=not native,
        walltime_s=600,
        poll_s=0.2,
        grace_s=1,
    )


def driver_of(path, site, command, **settings):
    config = HpoConfig(study=str(path), dispatcher=site, command=command, **settings)
    clock = WallClock()
    path.mkdir(exist_ok=True)
    writer = open_study(StudyFolder(path), new_header(config, clock.now()), clock.now)
    said = []
    context = DriverContext(
        writer=writer,
        dispatcher=make_dispatcher(site),
        propose=propose_random,
        config=config,
        clock=clock,
        workdir=Path.cwd(),
        say=said.append,
    )
    return Driver(context), said


def run(driver, limit_s=90.0, until=lambda: False):
    end = time.monotonic() + limit_s
    while not driver.done() and not until():
        assert time.monotonic() < end, "the study takes too long"
        time.sleep(driver.try_step() / 2)


def starts(path):
    return sorted(p.read_text() for p in path.glob("trials/*/starts"))


def test_a_study_with_more_jobs_than_cpus_runs_each_once(tmp_path, site, quick_training):
    path = tmp_path / ("Jürgens s, 'x'" if site.kind is DispatcherKind.slurm else "s")
    driver, _ = driver_of(path, site, quick_training, workers=6, trials=9)
    run(driver)
    assert starts(path) == ["start\n"] * 9
    assert {t.state for t in driver.study.trials} == {TrialState.COMPLETE}


def test_cancelled_jobs_are_gone_before_their_workers_are_free(tmp_path, site, quick_training):
    site.environment = {"QUICK_S": "300"}
    driver, _ = driver_of(tmp_path / "s", site, quick_training, workers=6, trials=6)
    run(driver, until=lambda: len(starts(tmp_path / "s")) == 4)  # 4 run, 2 wait for a CPU
    driver.stop_jobs()
    run(driver)
    assert [t.reason for t in driver.study.trials] == [Reason.USER] * 6
    left = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout
    assert left.split() == []


def test_a_controller_that_is_killed_and_restarted_loses_no_job(tmp_path, slurm, quick_training):
    site = DispatcherConfig(kind=DispatcherKind.slurm, poll_s=0.2, grace_s=1, timeout_s=20)
    site.environment = {"QUICK_S": "1.5"}
    driver, said = driver_of(tmp_path / "s", site, quick_training, workers=4, trials=6)
    run(driver, until=lambda: len(starts(tmp_path / "s")) >= 2)
    slurm.stop("slurmctld")
    driver.try_step()
    assert any("Unable to contact slurm controller" in line for line in said)
    slurm.start()
    run(driver)
    assert starts(tmp_path / "s") == ["start\n"] * 6
    assert {t.state for t in read_study(tmp_path / "s").trials} == {TrialState.COMPLETE}


def test_a_partition_that_is_closed_for_maintenance_is_waited_for(tmp_path, site, quick_training):
    driver, said = driver_of(tmp_path / "s", site, quick_training, trials=1)
    set_partition("INACTIVE")
    try:
        driver.try_step()
    finally:
        set_partition("UP")
    assert any("Required partition not available" in line for line in said)
    run(driver)
    assert starts(tmp_path / "s") == ["start\n"]


def set_partition(state):
    words = ["scontrol", "update", "PartitionName=workq", f"State={state}"]
    subprocess.run(words, check=True, timeout=60)


def test_a_missing_partition_is_refused_with_the_message_of_slurm(tmp_path, slurm, quick_training):
    site = DispatcherConfig(kind=DispatcherKind.slurm, queue="nosuch", poll_s=0.2)
    driver, _ = driver_of(tmp_path / "s", site, quick_training)
    with pytest.raises(Refused, match="invalid partition specified: nosuch"):
        driver.step()
    site.queue = "workq"  # corrected, the same study continues
    run(driver_of(tmp_path / "s", site, quick_training, trials=1)[0])
    assert starts(tmp_path / "s") == ["start\n"]


def test_a_job_that_can_never_run_is_reported(tmp_path, slurm, quick_training):
    site = DispatcherConfig(kind=DispatcherKind.slurm, queue="tiny", walltime_s=3600, poll_s=0.2)
    driver, said = driver_of(tmp_path / "s", site, quick_training, trials=1)
    driver.step()
    run(driver, until=lambda: any("can never run" in line for line in said))
    assert driver.notes.reports[1].state is JobState.QUEUED
    driver.stop_jobs()
    run(driver)


def test_a_job_at_its_wall_clock_limit_is_resumed(tmp_path, slurm):
    """Slurm counts whole minutes, so this one takes more than one."""
    training = (
        'for w; do case $w in run_dir=*) d=${w#run_dir=};; esac; done; echo start >> "$d/starts"; '
        '[ "$(wc -l < "$d/starts")" -gt 1 ] && { echo \'{"status": "complete", "pauc": 0.5}\' '
        '> "$d/result.json"; exit 0; }; trap "exit 85" TERM; while true; do sleep 0.2; done'
    )
    site = DispatcherConfig(
        kind=DispatcherKind.slurm, walltime_s=60, walltime_margin_s=10, poll_s=1, grace_s=1
    )
    driver, _ = driver_of(tmp_path / "s", site, ["bash", "-c", training, "train"], trials=1)
    run(driver, limit_s=200)
    trial = driver.study.trial(1)
    assert [a.reason for a in trial.attempts] == [Reason.STOPPED, None]
    assert trial.value == 0.5
