"""Run folders: results survive JSON, and each run has its own folder."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nodule_det.files import write_json
from nodule_det.runs import RunResult, RunStatus, new_run_dir


def test_a_result_survives_json(tmp_path):
    result = RunResult(status=RunStatus.COMPLETE, pauc=0.5, pauc_interval=(0.4, 0.6), step=7)
    result = replace(result, pauc_influence={"a1f": -0.02})
    write_json(tmp_path / "result.json", result.as_dict())
    assert RunResult.from_json((tmp_path / "result.json").read_text()) == result


def test_unknown_fields_of_a_newer_version_are_kept():
    result = RunResult.from_json('{"status": "failed", "reason": "error", "colour": "red"}')
    assert result.status is RunStatus.FAILED
    assert result.extra == {"colour": "red"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status": "odd"}', '{"status": "comp'])
def test_an_invalid_result_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        RunResult.from_json(text)


def test_two_runs_in_the_same_second_get_two_folders(tmp_path):
    made = {new_run_dir(tmp_path) for _ in range(3)}
    assert len(made) == 3
    assert all(path.is_dir() for path in made)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pauc", 1.5), ("pauc", "0.5"), ("pauc_se", -0.1), ("cpm", True), ("step", -1),
        ("step", None), ("step", 2.5), ("seconds", "9"), ("best_step", 10**30), ("extra", [1]),
        ("pauc_interval", [0.1]), ("pauc_influence", [0.1]), ("pauc_influence", {"a": "x"}),
         ("pauc_interval", [0.1, 7]), ("message", 3), ("status", 4),
    ],
)  # fmt: skip
def test_an_impossible_value_in_a_result_is_refused_by_name(name, value):
    content = RunResult(status=RunStatus.COMPLETE, pauc=0.5).as_dict() | {name: value}
    with pytest.raises(ValueError, match=f"{name}|RunStatus"):
        RunResult.from_json(json.dumps(content))
