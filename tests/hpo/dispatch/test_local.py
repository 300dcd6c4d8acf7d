import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nodule_det.config.hpo import DispatcherConfig
from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.dispatch.base import Job, JobState
from nodule_det.hpo.dispatch.local import KILL_DELAY_S, LocalDispatcher
from nodule_det.hpo.training.files import read_claim

STUBBORN = "trap '' TERM\ntouch $(dirname $0)/ready\nfor _ in $(seq 300); do sleep 0.1; done\n"


def job(tmp_path, number, script):
    folder = tmp_path / f"{number:04d}" / "attempt_1"
    folder.mkdir(parents=True)
    (folder / "job.sh").write_text(script)
    return Job(f"nd-{number}", folder)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def state(dispatcher, job_id):
    return dispatcher.poll([job_id])[job_id].state


def test_each_job_gets_its_own_gpu_even_after_a_restart(tmp_path):
    config = DispatcherConfig(gpus=[2, 5, 7], cpus_per_job=3)
    script = "echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS > gpu; exec sleep 20\n"
    jobs = [job(tmp_path, n, f"cd {tmp_path}/{n:04d}\n{script}") for n in (1, 2, 3)]
    before = LocalDispatcher(config, job_script())
    ids = [before.submit(j) for j in jobs[:2]]
    files = [tmp_path / f"{n:04d}" / "gpu" for n in (1, 2, 3)]
    wait_for(lambda: all(f.exists() and f.read_text() for f in files[:2]))
    after = LocalDispatcher(config, job_script())
    wait_for(lambda: set(s.state for s in after.poll(ids).values()) == {JobState.RUNNING})
    ids.append(after.submit(jobs[2]))
    wait_for(lambda: all(f.exists() and f.read_text() for f in files))
    assert [f.read_text() for f in files] == ["2 3\n", "5 3\n", "7 3\n"]
    after.cancel(ids)
    wait_for(lambda: {r.state for r in after.poll(ids).values()} == {JobState.GONE})


def test_two_jobs_share_a_gpu_that_is_listed_twice(tmp_path):
    dispatcher = LocalDispatcher(DispatcherConfig(gpus=[3, 3]), job_script())
    script = "echo $CUDA_VISIBLE_DEVICES > gpu; exec sleep 20\n"
    jobs = [job(tmp_path, n, f"cd {tmp_path}/{n:04d}\n{script}") for n in (1, 2)]
    ids = [dispatcher.submit(j) for j in jobs]
    files = [tmp_path / f"{n:04d}" / "gpu" for n in (1, 2)]
    wait_for(lambda: all(f.exists() and f.read_text() for f in files))
    assert [f.read_text() for f in files] == ["3\n", "3\n"]
    assert {r.state for r in dispatcher.poll(ids).values()} == {JobState.RUNNING}
    dispatcher.cancel(ids)
    wait_for(lambda: {r.state for r in dispatcher.poll(ids).values()} == {JobState.GONE})


def test_a_job_outlives_its_driver_and_is_found_again(tmp_path):
    code = (
        "import sys, os; from pathlib import Path\n"
        "from nodule_det.config.hpo import DispatcherConfig\n"
        "from nodule_det.hpo.dispatch import job_script\n"
        "from nodule_det.hpo.dispatch.base import Job\n"
        "from nodule_det.hpo.dispatch.local import LocalDispatcher\n"
        "LocalDispatcher(DispatcherConfig(), job_script()).submit(Job('nd-1', Path(sys.argv[1])))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    run = job(tmp_path, 1, "exec sleep 20\n")
    subprocess.run([sys.executable, "-c", code, str(run.folder)], check=False)
    dispatcher = LocalDispatcher(DispatcherConfig(), job_script())
    wait_for(lambda: dispatcher.find(run) is not None)  # /proc shows no arguments during an exec
    job_id = dispatcher.find(run)
    assert state(dispatcher, job_id) is JobState.RUNNING
    wait_for(lambda: read_claim(run.folder) is not None)
    assert dispatcher.find(run) == job_id == read_claim(run.folder).job
    dispatcher.cancel([job_id])
    wait_for(lambda: state(dispatcher, job_id) is JobState.GONE)


def test_a_child_forked_by_the_shell_of_a_job_is_not_mistaken_for_it(tmp_path):
    run = job(tmp_path, 1, "exec sleep 20\n")
    words = ["bash", "-c", "sleep 20; :", str(job_script()), str(run.folder)]
    dispatcher = LocalDispatcher(DispatcherConfig(), job_script())
    for leads in (False, True):
        process = subprocess.Popen(words, start_new_session=leads)
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        try:
            wait_for(lambda cmdline=cmdline: b"sleep" in cmdline.read_bytes())
            found = dispatcher.find(run)
            assert (found is not None and found.startswith(f"{process.pid}-")) == leads
        finally:
            process.kill()
            process.wait()


def test_a_job_that_ignores_sigterm_is_killed_later(tmp_path):
    now = [0.0]
    dispatcher = LocalDispatcher(DispatcherConfig(), job_script(), clock=lambda: now[0])
    run = job(tmp_path, 1, STUBBORN)
    job_id = dispatcher.submit(run)
    wait_for((run.folder / "ready").exists)
    dispatcher.cancel([job_id])
    time.sleep(0.2)
    assert state(dispatcher, job_id) is JobState.RUNNING
    now[0] = KILL_DELAY_S
    wait_for(lambda: state(dispatcher, job_id) is JobState.GONE)


@pytest.mark.parametrize("pid", [1, os.getpid], ids=["init", "ourselves"])
def test_a_reused_pid_is_not_the_job(pid):
    job_id = f"{pid() if callable(pid) else pid}-1-00000000"
    dispatcher = LocalDispatcher(DispatcherConfig(), job_script())
    assert state(dispatcher, job_id) is JobState.GONE
    dispatcher.cancel([job_id])  # and no other process is signalled


def test_the_id_of_the_drivers_own_batch_job_is_not_passed_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PBS_JOBID", "99.pbs01")
    run = job(tmp_path, 1, "exit 0\n")
    job_id = LocalDispatcher(DispatcherConfig(), job_script()).submit(run)
    wait_for(lambda: read_claim(run.folder) is not None)
    assert read_claim(run.folder).job == job_id


def test_only_the_owner_can_read_the_files_of_a_job(tmp_path):
    run = job(tmp_path, 1, "")
    run.script.write_text(f"echo secret > {run.folder}/out\n")
    LocalDispatcher(DispatcherConfig(), job_script()).submit(run)
    wait_for((run.folder / "exit_code").exists)
    made = [run.folder / name for name in ("claim", "exit_code", "out", "job.log")]
    assert [path.stat().st_mode & 0o077 for path in made] == [0, 0, 0, 0]
