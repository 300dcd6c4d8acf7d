"""Run folders: files are whole or absent, results survive the trip through JSON."""

from __future__ import annotations

import json

import pytest

from nodule_det.files import append_jsonl, read_jsonl, replacing, write_json, write_text
from nodule_det.runs import RunResult, RunStatus, new_run_dir


def test_a_result_survives_the_trip_through_json(tmp_path):
    result = RunResult(status=RunStatus.COMPLETE, pauc=0.5, pauc_interval=(0.4, 0.6), step=7)
    write_json(tmp_path / "result.json", result.as_dict())
    assert RunResult.from_json((tmp_path / "result.json").read_text()) == result


def test_a_result_of_a_newer_version_keeps_what_we_do_not_know():
    result = RunResult.from_json('{"status": "failed", "reason": "error", "colour": "red"}')
    assert result.status is RunStatus.FAILED
    assert result.extra == {"colour": "red"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status": "odd"}', '{"status": "comp'])
def test_what_is_no_result_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        RunResult.from_json(text)


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_without_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_two_runs_in_one_second_get_two_folders(tmp_path):
    made = {new_run_dir(tmp_path) for _ in range(3)}
    assert len(made) == 3
    assert all(path.is_dir() for path in made)


def test_a_torn_line_of_metrics_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    append_jsonl(path, {"step": 2})
    path.write_text(path.read_text() + json.dumps({"step": 3})[:-1])
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_a_folder_that_is_not_there_is_told_by_the_name_that_was_asked_for(tmp_path):
    wanted = tmp_path / "none" / "trials.csv"
    with pytest.raises(FileNotFoundError) as caught:
        write_text(wanted, "a")
    assert caught.value.filename == str(wanted)
