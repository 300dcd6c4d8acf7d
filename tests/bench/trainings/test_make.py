"""The table of real trainings: its points, its lines, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.trainings import make
from bench.trainings.surrogate import read_rows
from nodule_det.hpo.space.parsing import read_space

COMMAND = Path(make.__file__)


@pytest.fixture(scope="module")
def space():
    return read_space(str(make.SPACE))


def test_more_trainings_extend_the_same_list(space):
    assert make.points(space, 20) == make.points(space, 320)[:20]


def test_a_block_is_five_sobol_points_two_random_ones_and_a_repeat_of_the_first(space):
    block = make.points(space, 16)[8:]
    assert [p.kind for p in block] == ["sobol"] * 5 + ["random"] * 2 + ["repeat"]
    assert block[7].params == block[0].params
    assert block[7].seed != block[0].seed
    assert block[0].params != block[1].params


def test_every_point_is_a_valid_setting_of_a_training(space):
    for point in make.points(space, 64):
        assert point.params["patches.size_vox"] >= 8 * point.params["model.depth"]


def test_a_line_that_was_cut_short_is_removed_and_the_others_stay(tmp_path):
    table = tmp_path / "table.jsonl"
    make.append(table, {"number": 1})
    make.append(table, {"session": "x"})
    with open(table, "a") as file:
        file.write('{"number": 2, "val')
    make.drop_torn_line(table)
    make.append(table, {"number": 0})
    assert [row["number"] for row in read_rows(table)] == [0, 1]


def test_a_killed_command_leaves_no_training_behind_and_resumes_without_a_double(tmp_path):
    def start(trainings):
        words = [str(COMMAND), str(tmp_path), "--trainings", str(trainings), "--quick"]
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)

    with start(1000) as first:
        printed = first.stdout.readline()
        os.kill(first.pid, signal.SIGKILL)
    assert printed.startswith("0 sobol complete")
    again = start(2)
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    numbers = [row["number"] for row in read_rows(tmp_path / "table.jsonl")]
    assert sorted(set(numbers)) == numbers
    assert numbers[:2] == [0, 1]
    assert "0 sobol" not in printed
    assert not list((tmp_path / "runs").iterdir())
    lines = (tmp_path / "table.jsonl").read_text().splitlines()
    assert sum("session" in json.loads(line) for line in lines) == 2
