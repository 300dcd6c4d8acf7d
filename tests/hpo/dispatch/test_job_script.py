"""The job script, run as batch systems run it: once, and again with the same id."""

import os
import subprocess

import pytest

from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.training.files import abandon, close, read_claim, read_exit


def start(folder, job_id, **more):
    environment = {**os.environ, "NODULE_JOB": str(folder), "PBS_JOBID": job_id, **more}
    words = ["bash", str(job_script())]
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, start_new_session=True
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.sh").write_text(f"echo start >> {tmp_path}/starts; exit 3\n")
    return tmp_path


def test_an_ended_job_is_not_run_again_under_its_own_id(folder):
    # OpenPBS 23.06.06 killed while a job starts puts it back into the queue, also with -r n.
    assert start(folder, "4055.pbs01").returncode == 3
    again = start(folder, "4055.pbs01")
    assert again.returncode == 3
    assert again.stdout == f"4055.pbs01 already ran {folder} and exited with 3; nothing to do\n"
    assert (folder / "starts").read_text() == "start\n"
    assert read_exit(folder).code == 3


def test_a_job_shows_that_its_training_runs_and_leaves_no_heartbeat(folder):
    (folder / "job.sh").write_text(
        f"cd {folder}; until [ -s heartbeat ]; do sleep 0.05; done; cp heartbeat first\n"
        "while cmp -s heartbeat first; do sleep 0.05; done; exit 3\n"
    )
    assert start(folder, "4055.pbs01", NODULE_HEARTBEAT_S="0.2").returncode == 3
    assert int((folder / "first").read_text()) > 1_700_000_000
    assert not (folder / "heartbeat").exists()


def test_a_job_whose_trial_continues_without_it_ends_its_training(folder):
    (folder / "job.sh").write_text("trap 'exit 85' TERM; while true; do sleep 0.1; done\n")
    abandon(folder)
    assert start(folder, "4055.pbs01", NODULE_HEARTBEAT_S="0.2").returncode == 85
    assert read_exit(folder).code == 85


def test_a_batch_system_can_name_the_variable_of_its_id(folder):
    words = ["bash", str(job_script()), str(folder), "LSB_JOBID"]
    subprocess.run(words, env={**os.environ, "LSB_JOBID": "77"}, check=False)
    assert read_claim(folder).job == "77"


def test_a_job_whose_node_crashed_resumes_under_its_own_id(folder):
    (folder / "claim").write_text("4055.pbs01 pbs01 1795446648.639\n")
    assert start(folder, "4055.pbs01").returncode == 3
    assert (folder / "starts").read_text() == "start\n"
    assert read_exit(folder).code == 3


def test_another_job_leaves_a_claimed_folder_alone(folder):
    (folder / "claim").write_text("4055.pbs01 pbs01 1795446648.639\n")
    assert start(folder, "4056.pbs01").returncode == 0
    assert not (folder / "starts").exists()
    assert read_claim(folder).job == "4055.pbs01"


def test_a_file_system_without_hard_links_is_named(folder):
    (folder / "bin").mkdir()
    (folder / "bin" / "ln").write_text("#!/bin/sh\necho 'Operation not permitted' >&2; exit 1\n")
    (folder / "bin" / "ln").chmod(0o700)
    refused = start(folder, "4055.pbs01", PATH=f"{folder}/bin:{os.environ['PATH']}")
    assert refused.returncode == 2
    assert refused.stderr == (
        f"error: no hard link could be made in {folder}; choose a file system that has them\n"
    )
    assert not (folder / "starts").exists()


def test_no_job_runs_in_a_closed_folder_and_a_claimed_one_cannot_be_closed(folder):
    assert close(folder)
    assert close(folder)  # again, by a driver that was killed before it wrote so
    assert read_claim(folder) is None
    assert start(folder, "4055.pbs01").returncode == 0
    assert not (folder / "starts").exists()
    assert sorted(p.name for p in folder.iterdir()) == ["claim", "job.sh"]

    (folder / "claim").unlink()
    assert start(folder, "4055.pbs01").returncode == 3
    assert not close(folder)
    assert read_claim(folder).job == "4055.pbs01"
