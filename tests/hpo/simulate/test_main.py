"""The poster's experiment: equal conditions for all, virtual time, two figures."""

import csv
import os
import subprocess
import sys

import pytest

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.config.hpo_tools import SimulateConfig
from nodule_det.errors import ConfigError

RANDOM = AcquisitionConfig(strategy=Strategy.random)


def simulate_by_command(folder, *words, code=0):
    command = [
        sys.executable,
        "-m",
        "nodule_det.hpo.simulate",
        f"out={folder}",
        "jobs=6",
        *words,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == code, run.stderr
    return run


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_draws_both_figures_resumes_and_refuses_other_settings(tmp_path):
    folder = tmp_path / "s"
    simulate_by_command(folder, "strategies=[random]", "workers=[1]")
    first = (folder / "runs.csv").read_text()
    more = ["strategies=[random,sobol]", "workers=[1,4]", "processes=2"]
    done = simulate_by_command(folder, *more)
    assert "12 studies" in done.stdout
    assert len(read(folder / "runs.csv")) == 2 * 2 * 3 * 6
    assert (folder / "runs.csv").read_text().startswith(first)  # not simulated again
    for name in (
        "fig7_best_against_jobs", "fig8_best_against_jobs_per_worker", "best_against_hours",
        "strategies_against_jobs", "strategies_against_hours",
    ):  # fmt: skip
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert {r["axis"] for r in read(folder / "curves.csv")} == {"jobs", "rounds", "hours"}
    assert len(read(folder / "summary.csv")) == 2 * 2
    other = simulate_by_command(folder, "acquisition.first=4", code=2)
    assert f"out={folder} has studies with acquisition={{" in other.stderr


def test_no_strategy_is_refused():
    with pytest.raises(ConfigError, match="need at least one each"):
        SimulateConfig(strategies=[])


def test_the_strategy_of_a_single_study_is_refused_with_the_right_setting():
    with pytest.raises(ConfigError, match=r"use strategies=\[random\]"):
        SimulateConfig(acquisition=RANDOM)
