"""Batch systems for the tests: a stand-in for PBS, and a real Slurm if it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.hpo.command_line import tune
from tests.hpo.virtual_lab import Lab
from tests.programs import need_programs

HERE = Path(__file__).parent
STANDIN = HERE.parent / "bin" / "pbs"
QUICK_TRAINING = HERE.parent / "bin" / "quick_training.sh"
SLURM = HERE.parent / "slurm"


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """Three complete trials.  Shared by all tests of the commands: copy it to change it."""
    folder = tmp_path_factory.mktemp("study") / "s"
    run = tune(folder, ["bash", str(QUICK_TRAINING)], "workers=2", "trials=3")
    assert run.stdout.startswith(f"{folder}: 3 complete, 0 failed")
    assert "trial 1 complete" in run.stderr
    return folder


@pytest.fixture
def study(finished_study, tmp_path):
    """Return a copy of the study of three complete trials."""
    return Path(shutil.copytree(finished_study, tmp_path / "s"))


@pytest.fixture
def quick_training():
    """Return the command of a training that takes a moment."""
    return ["bash", str(QUICK_TRAINING)]


@pytest.fixture
def slurm_qsub(slurm):
    """Use Slurm's copies of qsub, qstat and qdel."""
    need_programs("qsub", "qstat", "qdel")
    return slurm


@pytest.fixture
def pbs_standin(tmp_path, monkeypatch):
    """Put the stand-in's qsub, qstat, qdel and qselect on the PATH; gives its folder."""
    home = tmp_path / "pbs"
    home.mkdir()
    monkeypatch.setenv("PATH", f"{STANDIN}:{os.environ['PATH']}")
    monkeypatch.setenv("PBS_STANDIN", str(home))
    return home


class Slurm:
    """A one-node Slurm of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_ports()

    def start(self) -> None:
        words = ["bash", str(SLURM / "start_slurm.sh"), str(self.folder), str(self.port)]
        subprocess.run(words, check=True, timeout=60, capture_output=True)

    def stop(self, *daemons: str) -> None:
        words = ["bash", str(SLURM / "stop_slurm.sh"), str(self.folder), *daemons]
        subprocess.run(words, check=True, timeout=60, capture_output=True)


def _free_ports() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except OSError:
                continue
            return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def slurm_server(tmp_path_factory):
    """Start Slurm; skip if it is not installed or the user is not root."""
    need_programs("slurmctld", "slurmd", "munged", "sbatch")
    if os.geteuid() != 0:
        pytest.skip("starting a Slurm of its own needs root")
    server = Slurm(tmp_path_factory.mktemp("slurm"))
    server.start()
    yield server
    subprocess.run(["scancel", "--user=root"], env=_with(server), check=False, timeout=60)
    server.stop()


def _with(server: Slurm) -> dict[str, str]:
    return {**os.environ, "SLURM_CONF": str(server.folder / "slurm.conf")}


@pytest.fixture
def slurm(slurm_server, monkeypatch):
    """Point this test's commands at the Slurm of the module."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_server.folder / "slurm.conf"))
    return slurm_server


@pytest.fixture
def lab(tmp_path):
    labs = []

    def make(*args, **settings):
        labs.append(Lab(tmp_path / f"study{len(labs)}", *args, **settings))
        return labs[-1]

    yield make
    for made in labs:
        if made.writer is not None:
            made.writer.close()
