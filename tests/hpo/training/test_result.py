import json
import os

import pytest

from nodule_det.config.hpo import Direction
from nodule_det.files import append_jsonl
from nodule_det.hpo.study.objective import PAUC, Constraint, Objective
from nodule_det.hpo.training.result import find_value, read_curve, read_result
from nodule_det.runs import RunFolder, RunStatus

LOSS = Objective("val.loss", Direction.minimize)


def written(folder, **content):
    RunFolder(folder).result.write_text(json.dumps(content))
    return folder


def test_the_result_of_our_own_training(tmp_path):
    done = {"status": "complete", "pauc": 0.5, "pauc_se": 0.01, "peak_memory_bytes": 10}
    result, damage = read_result(written(tmp_path, **done), PAUC)
    assert (result.status, result.value, result.value_se) == (RunStatus.COMPLETE, 0.5, 0.01)
    assert (result.peak_memory_bytes, damage) == (10, "")


def test_any_number_can_be_the_objective_and_is_read_as_reported(tmp_path):
    folder = written(tmp_path, status="complete", val={"loss": 12.5, "loss_se": 2})
    result, _ = read_result(folder, LOSS)
    assert (result.value, result.value_se) == (12.5, 2.0)
    flat, _ = read_result(written(tmp_path, status="complete", **{"val.loss": -1e6}), LOSS)
    assert (flat.value, flat.value_se) == (-1e6, None)


def test_the_influence_of_each_validation_case_is_read(tmp_path):
    pulls = {"a1f": -0.02, "c07": 0}
    folder = written(tmp_path, status="complete", pauc=0.5, pauc_influence=pulls)
    assert read_result(folder, PAUC)[0].influence == pulls
    nested = written(tmp_path, status="complete", val={"loss": 1, "loss_influence": {"a": -70}})
    assert read_result(nested, LOSS)[0].influence == {"a": -70.0}


@pytest.mark.parametrize(
    "odd",
    [None, {}, [0.1], "x", 0.1, {"a": "x"}, {"a": None}, {"a": True}, {"a": 2}, {"a": [1]},
     {"": 0.1}, {"x" * 65: 0.1}, {"\x1b": 0.1}, {str(i): 0.0 for i in range(4097)}],
)  # fmt: skip
def test_an_impossible_influence_is_ignored_and_the_value_counts(tmp_path, odd):
    folder = written(tmp_path, status="complete", pauc=0.5, pauc_influence=odd)
    result, damage = read_result(folder, PAUC)
    assert (result.value, result.influence, damage) == (0.5, None, "")


def test_a_key_with_dots_takes_precedence_over_a_path():
    content = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "x": 4}
    assert find_value(content, "a.b") == 1
    assert find_value(content, "a.c.d") == 3
    assert find_value(content, "a.c.d.e") is None
    assert find_value(content, "x.y") is None


@pytest.mark.parametrize("value", [None, True, "0.5", [0.5], {}, -0.1, 1.1, 10**400])
def test_an_impossible_value_is_none(tmp_path, value):
    result, damage = read_result(written(tmp_path, status="complete", pauc=value), PAUC)
    assert result.value is None
    assert damage == ""
    odd = written(tmp_path, status="complete", pauc=0.5, pauc_se=value, peak_memory_bytes="x")
    result, _ = read_result(odd, PAUC)
    assert (result.value, result.value_se, result.peak_memory_bytes) == (0.5, None, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "expected a JSON object"),
        ('{"pauc": 0.5}', "but expected one of running, complete, stopped, failed"),
        ('{"status": ["complete"]}', "but expected one of running, complete, stopped, failed"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_damaged_result_is_described_in_one_line(tmp_path, text, why):
    RunFolder(tmp_path).result.write_bytes(text.encode(errors="surrogateescape"))
    result, damage = read_result(tmp_path, PAUC)
    assert result is None
    assert why in damage
    assert damage.isprintable()


@pytest.mark.parametrize(
    ("text", "diverged"),
    [("NaN", True), ("Infinity", True), ("-Infinity", True), ("1e999", True), ("-1e101", True),
     ("1e100", False), ("null", False), ('"NaN"', False), ("true", False), ("[NaN]", False)],
)  # fmt: skip
def test_a_value_that_is_not_a_usable_number_has_diverged(tmp_path, text, diverged):
    RunFolder(tmp_path).result.write_text(f'{{"status": "complete", "val": {{"loss": {text}}}}}')
    result, damage = read_result(tmp_path, LOSS)
    assert (result.diverged, damage) == (diverged, "")
    assert result.value == (1e100 if text == "1e100" else None)


def test_nan_beside_the_objective_changes_nothing(tmp_path):
    RunFolder(tmp_path).result.write_bytes(
        b'\xef\xbb\xbf{"status": "complete",\r\n "pauc": 0.5, "auc_of_class_3": NaN, '
        b'"pauc_se": NaN, "pauc_influence": {"a": NaN}, "step": NaN,\r\n'
        b'"peak_memory_bytes": Infinity}\r\n'
    )  # with a byte order mark and the line ends of Windows
    result, _ = read_result(tmp_path, PAUC)
    assert (result.value, result.value_se, result.influence) == (0.5, None, None)
    assert (result.diverged, result.peak_memory_bytes) == (False, None)
    RunFolder(tmp_path).metrics.write_text(
        '{"kind": "validation", "epoch": 5, "pauc": 0.25, "other": NaN}\n'
        '{"kind": "validation", "epoch": NaN, "pauc": 0.25}\n'
    )
    assert [(o.epoch, o.value) for o in read_curve(tmp_path, PAUC)] == [(5, 0.25)]


def test_a_folder_or_a_fifo_in_place_of_a_file_is_described_too(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_result(tmp_path, PAUC) == (None, "")
    os.mkfifo(folder.result)
    folder.metrics.mkdir()
    assert "not a regular file" in read_result(tmp_path, PAUC)[1]
    assert read_curve(tmp_path, PAUC) == []


def test_messages_are_safe_to_print(tmp_path):
    result, _ = read_result(
        written(tmp_path, status="failed", message="bad\x1b[2J\n", reason=7), PAUC
    )
    assert (result.message, result.reason) == ("bad?[2J", None)


def test_the_curve_is_that_of_the_validations(tmp_path):
    path = RunFolder(tmp_path).metrics
    append_jsonl(path, {"kind": "train", "step": 1, "loss": 0.5})
    append_jsonl(path, {"kind": "validation", "epoch": 5, "pauc": 0.25, "pauc_se": 0.02})
    append_jsonl(path, {"kind": "validation", "epoch": 10, "pauc": None, "pauc_se": None})
    append_jsonl(path, {"kind": "validation", "pauc": 0.5})
    for odd in ("true", "1e999", "[]", "1.5", "-1", "9" * 400, '"5"'):
        with open(path, "a", encoding="utf-8") as f:
            f.write(f'{{"kind": "validation", "epoch": {odd}, "pauc": 0.5}}\n')
    with open(path, "a", encoding="utf-8") as f:  # as json.dumps writes it
        f.write('{"kind": "validation", "epoch": 15, "pauc": NaN, "pauc_se": 0.1}\n[]\n\0\n')
        f.write('{"kind": "validation", "epoch": 20, "pauc": 7}\n{"kind": "validation", "ep')
    assert [(o.epoch, o.value, o.se) for o in read_curve(tmp_path, PAUC)] == [(5, 0.25, 0.02)]


def test_the_curve_of_another_objective(tmp_path):
    row = {"kind": "validation", "epoch": 1, "val.loss": 3.5, "val.loss_se": 0.5}
    append_jsonl(RunFolder(tmp_path).metrics, row)
    assert [(o.epoch, o.value, o.se) for o in read_curve(tmp_path, LOSS)] == [(1, 3.5, 0.5)]


LIMITED = Objective("pauc", constraints=(Constraint("time.scan", high=30.0), Constraint("n", 2.0)))


def test_a_violated_constraint_is_described(tmp_path):
    ok = {"status": "complete", "pauc": 0.5, "n": 2, "time": {"scan": 30}}
    result, _ = read_result(written(tmp_path, **ok), LIMITED)
    assert (result.violation, result.lacks) == ("", "")
    result, _ = read_result(written(tmp_path, **ok | {"time": {"scan": 41.5}}), LIMITED)
    assert (result.violation, result.lacks) == ("time.scan=41.5 is above 30", "")
    result, _ = read_result(written(tmp_path, **ok | {"time": {"scan": 99}, "n": 1}), LIMITED)
    assert result.violation == "time.scan=99 is above 30; n=1 is below 2"


@pytest.mark.parametrize("odd", [None, True, "30", [30], {}, 10**400, float("nan")])
def test_a_number_of_a_constraint_that_is_none_is_named(tmp_path, odd):
    folder = written(tmp_path, status="complete", pauc=0.5, n=odd, time={"scan": 3})
    result, _ = read_result(folder, LIMITED)
    assert result.violation == ""
    assert result.lacks.startswith("n=")
