"""The best trial according to the model, and the file from which other commands read it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from nodule_det.hpo.model.expected import (
    FILE_NAME,
    MIN_VALUES,
    Expected,
    expect,
    load_expected,
    save_expected,
)
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, Study

SPACE = parse_space({"parameters": {"x": {"kind": "float", "low": 0.0, "high": 1.0}}})


def finish(study, number, x, value, se=0.01):
    asked = {"kind": "asked", "t": 0.0, "trial": number, "params": {"x": x}, "source": "random"}
    study.apply(asked)
    done = {"kind": "finished", "t": 1.0, "trial": number, "state": "complete"}
    study.apply({**done, "value": value, "value_se": se})


@pytest.fixture
def study():
    """A hill with its top at 0.6, and one lucky value at its foot with a large error."""
    made = Study(Header(id="cafe", space=SPACE))
    for number, x in enumerate(np.linspace(0, 1, 11), 1):
        finish(made, number, float(x), 0.7 - (x - 0.6) ** 2)
    finish(made, 12, 0.12, 0.75, se=0.3)
    assert not made.problems
    return made


def test_the_expected_best_is_the_top_and_not_the_lucky_trial(study):
    expected = expect(study)
    assert study.best().number == 12
    assert expected.trial == 7
    assert expected.mean == pytest.approx(0.7, abs=0.01)
    assert 0 < expected.sd < 0.02


def test_with_too_few_values_there_is_no_expected_best():
    few = Study(Header(id="cafe", space=SPACE))
    for number in range(1, MIN_VALUES):
        finish(few, number, number / 10, 0.5)
    assert expect(few) is None
    finish(few, MIN_VALUES, 0.9, 0.5)
    assert expect(few) is not None


def test_what_was_saved_is_loaded_until_another_trial_ends(study, tmp_path):
    assert load_expected(tmp_path, study) is None
    saved = Expected(trial=7, mean=0.69, sd=0.01)
    save_expected(tmp_path, study, saved)
    assert load_expected(tmp_path, study) == saved
    study.apply({"kind": "asked", "t": 2.0, "trial": 13, "params": {"x": 0.5}, "source": "random"})
    assert load_expected(tmp_path, study) == saved  # a pending trial without validations
    finish(study, 14, 0.55, 0.69)
    assert load_expected(tmp_path, study) is None


@pytest.mark.parametrize(
    "change",
    [{"trial": 99}, {"trial": [7]}, {"mean": "high"}, {"sd": None}, {"made_for": 1}],
)
def test_a_file_with_contradictory_content_is_ignored(study, tmp_path, change):
    save_expected(tmp_path, study, Expected(trial=7, mean=0.69, sd=0.01))
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert load_expected(tmp_path, study) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", '{"made_for": NaN}', "\0"])
def test_a_damaged_file_is_ignored(study, tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    assert load_expected(tmp_path, study) is None


def test_loading_needs_no_torch():
    code = "import sys, nodule_det.hpo.model.expected; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
