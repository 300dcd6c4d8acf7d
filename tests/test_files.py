"""Atomic files, JSON with checksums, and JSON lines."""

from __future__ import annotations

import json
import os
from hashlib import blake2b

import pytest

from nodule_det.files import (
    append_jsonl,
    file_checksum,
    read_jsonl,
    read_sealed,
    replacing,
    write_json,
    write_sealed,
    write_text,
)

MAX_BYTES = 10_000


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


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path):
    """Writers of pictures raise without one."""

    def fill_the_disk() -> None:
        with replacing(tmp_path / "a.png"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        fill_the_disk()
    assert caught.value.filename == str(tmp_path / "a.png")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_truncated_line_of_metrics_is_skipped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    append_jsonl(path, {"step": 2})
    path.write_text(path.read_text() + json.dumps({"step": 3})[:-1])
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_a_missing_folder_is_reported_with_the_requested_name(tmp_path):
    wanted = tmp_path / "none" / "trials.csv"
    with pytest.raises(FileNotFoundError) as caught:
        write_text(wanted, "a")
    assert caught.value.filename == str(wanted)


def test_a_sealed_object_comes_back_without_its_checksum(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, {"b": 1, "a": [0.5, "x"]})
    assert read_sealed(path, MAX_BYTES) == {"b": 1, "a": [0.5, "x"]}


def test_an_edited_sealed_file_is_refused_until_its_checksum_is_deleted(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, {"folds": 5})
    path.write_text(path.read_text().replace("5", "6", 1))
    with pytest.raises(ValueError, match=r"a\.json differs from its checksum.*'checksum'"):
        read_sealed(path, MAX_BYTES)
    write_json(path, {"folds": 6})
    assert read_sealed(path, MAX_BYTES) == {"folds": 6}


def test_the_order_of_keys_does_not_change_the_checksum(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, {"a": 1, "b": 2})
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_sealed(path, MAX_BYTES) == {"a": 1, "b": 2}


def test_the_checksum_of_a_file_is_the_blake2b_of_its_bytes(tmp_path):
    path = tmp_path / "volume.npy"
    path.write_bytes(bytes(range(256)) * 1000)
    assert file_checksum(path) == blake2b(bytes(range(256)) * 1000, digest_size=16).hexdigest()


def test_a_fifo_in_place_of_a_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a")
    for read in (read_jsonl, file_checksum):
        with pytest.raises(ValueError, match="a cannot be read: it is not a regular file"):
            read(tmp_path / "a")
