import itertools
import json
import os
import socket

import pytest

from nodule_det.untrusted import (
    parse_object,
    printable,
    read_bytes,
    read_end,
    read_object,
    read_text,
    read_yaml,
)


def test_a_regular_file_is_read_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"pauc": 0.5, "message": "ü"}')
    assert read_object(path, 100) == {"pauc": 0.5, "message": "ü"}
    assert read_text(path, 100) == path.read_text()
    assert read_end(path, 2) == '"}'


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "plain").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    odd = [tmp_path / name for name in ("fifo", "folder", "loop", "socket", "plain/below")]
    for path in [*odd, tmp_path / ("n" * 300)]:
        with pytest.raises(ValueError, match="cannot be read: "):
            read_bytes(path, 100)
        assert read_end(path, 100) == ""


def test_a_missing_file_is_distinguished_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "a", 100)
    assert read_end(tmp_path / "a", 100) == ""


def test_a_file_over_the_limit_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 101)
    assert len(read_bytes(tmp_path / "a", 101)) == 101
    with pytest.raises(ValueError, match="it is larger than 100 bytes"):
        read_bytes(tmp_path / "a", 100)
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(ValueError, match="it is larger than 100 bytes"):
        read_bytes(tmp_path / "sparse", 100)


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is not UTF-8 text"):
        read_text(tmp_path / "a", 100)
    with pytest.raises(ValueError, match="cannot be read: "):
        read_object(tmp_path / "a", 100)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "1", "null", '"a"', "{", '{"a": 1} {"b": 2}', "\0"),
        *('{"a": NaN}', '{"a": Infinity}', '{"a": -Infinity}', '{"a": 1e999}', '{"a": [1e400]}'),
        *('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"a": ' + "9" * 5000 + "}"),
    ],
)
def test_json_that_is_not_an_object_of_finite_numbers_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|finite|Expecting|Extra data|digits|valid"):
        parse_object(text)


def test_text_is_made_safe_for_a_terminal():
    evil = "a\x1b]0;title\x07\r\nb\tc\u202ed\ud800\x9b31m"
    safe = printable(evil)
    assert safe == "a?]0;title? b c?d??31m"
    assert json.loads(json.dumps(safe)) == safe
    assert printable("Müller 肺 CT") == "Müller 肺 CT"


def test_long_text_is_cut():
    assert printable("x" * 50, 10) == "xxxxxxx..."
    assert printable("x" * 10, 10) == "x" * 10


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in itertools.pairwise("abcdefghi")
)
"""A billion values in 500 bytes."""
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 10)}]}}\n"
    for before, name in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "counting each alias as often as it is used"),
        (MERGES, "counting each alias as often as it is used"),
        ("[" * 100_000, "levels"),
        ("a: &a [*a]", r"\*a is not defined before it is used"),
        ("a: *b", r"\*b is not defined"),
        ("a: [", "while parsing"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be"),
        ("? [a]\n: 1", "unhashable key"),
    ],
)
def test_yaml_that_is_damaged_or_a_bomb_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)


def test_yaml_may_use_an_alias(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: [1, 2]}\nb: *a\nc: {<<: *a, y: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {
        "a": {"x": [1, 2]}, "b": {"x": [1, 2]}, "c": {"x": [1, 2], "y": 3},
    }  # fmt: skip
