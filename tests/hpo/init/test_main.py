"""The files of ``hpo init`` run unchanged, and so do programs in other languages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import Reason
from tests.hpo.command_line import hpo

QUICK = ["acquisition.strategy=random", "dispatcher.poll_s=0.05", "dispatcher.grace_s=0.5"]
EXAMPLES = Path(__file__).parents[3] / "example" / "tuning"


def run(*words, cwd=None):
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_example_program_has_ten_lines_and_is_tuned_by_its_command(tmp_path):
    folder = tmp_path / "my first study"
    made = hpo("nodule_det.hpo.init", f'out="{folder}"', "example=true")
    assert made.stdout == f"{folder}: to start, run  sh '{folder}/tune.sh'\n"
    assert len((folder / "train.py").read_text().splitlines()) == 10
    first = run("sh", str(folder / "tune.sh"), *QUICK, "trials=4")
    assert "4 complete, 0 failed" in first.stdout
    assert "; best loss " in first.stdout
    study = read_study(folder / "study")
    assert study.trial(1).params == {"x": 0.0, "y": 0.0, "shape": "square"}
    assert study.objective.reported(study.trial(1).value) == 1 + 4 + 0.5
    assert study.best().value == max(t.value for t in study.trials)
    again = run("sh", str(folder / "tune.sh"), *QUICK, "trials=5")
    assert "5 complete" in again.stdout
    status = hpo("nodule_det.hpo.status", f'study="{folder}/study"')
    assert status.stdout.split()[2] == "loss"


def test_a_study_of_nodule_det_train_is_prepared(tmp_path):
    folder = tmp_path / "mine"
    hpo("nodule_det.hpo.init", f"out={folder}")
    (folder / "store").mkdir()
    shown = run("sh", str(folder / "tune.sh"), *QUICK, "dry_run=true")
    assert "-m nodule_det.train " in shown.stdout
    assert " optim.lr=" in shown.stdout


def test_a_folder_that_exists_is_refused(tmp_path):
    refused = hpo("nodule_det.hpo.init", f"out={tmp_path}", code=2)
    assert refused.stderr == f"error: out={tmp_path} already exists; use a new folder\n"


@pytest.mark.parametrize(("name", "program"), [("scikit-learn", "train.py"), ("shell", "train.sh")])
def test_programs_of_other_libraries_and_languages_are_tuned(name, program, tmp_path):
    here = EXAMPLES / name
    interpreter = sys.executable if program.endswith(".py") else "sh"
    goal = ["objective=accuracy", "constraints=[{name: nodes, max: 500}]"]
    if name == "shell":
        goal = ["direction=minimize", "objective=seconds.total"]
    hpo(
        "nodule_det.hpo",
        f"study={tmp_path}/s",
        f"command=[{interpreter},{here / program}]",
        f"search_space={here / 'space.yaml'}",
        *(*goal, *QUICK, "trials=3", "workers=1"),
    )
    study = read_study(tmp_path / "s")
    assert [t.state.value for t in study.trials] == ["complete"] * 3
    feasible = [t for t in study.trials if t.reason is None]
    assert all(study.objective.reported(t.value) > 0 for t in feasible)
    if name == "shell":
        assert len(feasible) == 3
        return
    assert all(len(t.curve) == 3 for t in study.trials)
    assert all(t.value_se is not None for t in feasible)
    infeasible = [t for t in study.trials if t.reason is Reason.INFEASIBLE]
    assert len(feasible) + len(infeasible) == 3
    assert feasible
    assert infeasible
    assert all(re.fullmatch(r"nodes=\d+ is above 500", t.message) for t in infeasible)
    assert study.best() in feasible
    status = hpo("nodule_det.hpo.status", f"study={tmp_path}/s").stdout
    assert f"3 complete ({len(infeasible)} infeasible)" in status


def test_several_objectives_are_refused_with_a_remedy(tmp_path):
    words = (f"study={tmp_path}/s", "objective='loss,seconds'")
    refused = hpo("nodule_det.hpo", *words, code=2)
    assert "must be the name of one number in result.json; to optimise several" in refused.stderr
