"""The job script, run as batch systems run it: once, and again under the same id."""

import os
import subprocess

import pytest

from nodule_det.hpo.dispatch import job_script
from nodule_det.hpo.training.files import close, read_claim, read_exit


def start(folder, job_id):
    environment = {**os.environ, "NODULE_JOB": str(folder), "PBS_JOBID": job_id}
    words = ["bash", str(job_script())]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.sh").write_text(f"echo start >> {tmp_path}/starts; exit 3\n")
    return tmp_path


def test_a_job_that_ended_is_not_run_again_under_its_own_id(folder):
    # OpenPBS 23.06.06 killed while a job starts puts it back into the queue, also with -r n.
    assert start(folder, "4055.pbs01").returncode == 3
    again = start(folder, "4055.pbs01")
    assert again.returncode == 3
    assert again.stdout == f"4055.pbs01 has run {folder} already, and left with 3; nothing to do\n"
    assert (folder / "starts").read_text() == "start\n"
    assert read_exit(folder).code == 3


def test_a_job_whose_node_crashed_goes_on_under_its_own_id(folder):
    (folder / "claim").write_text("4055.pbs01 pbs01 1795446648.639\n")
    assert start(folder, "4055.pbs01").returncode == 3
    assert (folder / "starts").read_text() == "start\n"
    assert read_exit(folder).code == 3


def test_another_job_leaves_a_claimed_folder_alone(folder):
    (folder / "claim").write_text("4055.pbs01 pbs01 1795446648.639\n")
    assert start(folder, "4056.pbs01").returncode == 0
    assert not (folder / "starts").exists()
    assert read_claim(folder).job == "4055.pbs01"


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
