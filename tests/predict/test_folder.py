"""The folder of candidates: names that cannot clash, records that are whole or done again."""

import fcntl
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodule_det.candidates import ScanCandidates
from nodule_det.errors import BusyError, ConfigError
from nodule_det.predict.folder import Predictions, file_stem

FOUND = ScanCandidates(
    world_mm=np.array([[-12.5, 40.25, -300.1], [1 / 3, 2.0, 3.0]]),
    score=np.array([0.931, 0.2]),
    diameter_mm=np.array([8.04, 5.0]),
    n_dropped=7,
)
MADE_BY = {"checkpoint": "sha256:1", "candidates.merge_mm": 6.0}
KEYS = st.text(st.sampled_from("ab1./_%- \\\0é~F25E"), max_size=12) | st.text(max_size=200)


def test_a_series_key_cannot_lead_out_of_the_folder():
    assert file_stem("../../etc/x") == "%2E.%2F..%2Fetc%2Fx"


def test_keys_that_differ_in_one_sign_have_names_that_differ():
    assert file_stem("a/b") == "a%2Fb"
    assert file_stem("a_b") == "a_b"
    assert file_stem("a%2Fb") == "a%252Fb"


@given(st.lists(KEYS, min_size=2, max_size=20, unique=True))
def test_no_two_keys_share_a_name(keys):
    assert len({file_stem(key) for key in keys}) == len(keys)


@given(KEYS)
def test_every_key_gives_a_name_that_a_file_can_have(key):
    name = f".{file_stem(key)}.mrk.json.4194304.tmp"  # the longest that is made of it
    assert len(os.fsencode(name)) <= 255
    assert not {"/", "\0"} & set(name)


def test_a_key_that_no_file_can_be_called_is_cut_and_stays_apart():
    long, other = 300 * "a", 300 * "a" + "b"
    assert len(file_stem(long)) == 120 + 1 + 16
    assert file_stem(long) != file_stem(other)


def test_what_is_kept_is_read_again_to_the_last_digit(tmp_path):
    folder = Predictions(tmp_path, 20)
    with folder.claimed(MADE_BY, ["1.2"]):
        folder.write("1.2", "stamp", FOUND)
        again = folder.read("1.2", "stamp")
    np.testing.assert_array_equal(again.world_mm, FOUND.world_mm)
    np.testing.assert_array_equal(again.score, FOUND.score)
    np.testing.assert_array_equal(again.diameter_mm, FOUND.diameter_mm)
    assert again.n_dropped == 7
    assert folder.read("1.2", "another stamp") is None
    assert folder.read("1.3") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stamp": "stamp", "candidates": [1, 2]}', "{}"])
def test_a_damaged_record_is_done_again(tmp_path, text):
    folder = Predictions(tmp_path, 20)
    with folder.claimed(MADE_BY, ["1.2"]):
        (tmp_path / "scans/1.2.json").write_text(text)
        assert folder.read("1.2", "stamp") is None


def test_a_scan_without_candidates_stands_too(tmp_path):
    none = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))
    folder = Predictions(tmp_path, 20)
    with folder.claimed(MADE_BY, ["1.2"]):
        folder.write("1.2", "stamp", none)
        assert len(folder.read("1.2", "stamp")) == 0
        folder.join(["1.2"])
    assert (tmp_path / "candidates.csv").read_text().count("\n") == 1


def test_two_commands_do_not_meet_in_one_folder(tmp_path):
    with open(tmp_path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with (
            pytest.raises(BusyError, match=r"out=\S+ is in use by another predict: held by"),
            Predictions(tmp_path, 20).claimed(MADE_BY, []),
        ):
            pass


def test_a_damaged_record_of_the_settings_is_refused(tmp_path):
    (tmp_path / "predict.json").write_text("{")
    with (
        pytest.raises(ConfigError, match=r"predict\.json is damaged \(.*\); use another out="),
        Predictions(tmp_path, 20).claimed(MADE_BY, []),
    ):
        pass


def test_what_a_killed_command_left_is_swept_away(tmp_path):
    left = tmp_path / "scans/.1.2.json.77.tmp"
    with Predictions(tmp_path, 20).claimed(MADE_BY, ["1.2"]):
        left.write_text("half")
    with Predictions(tmp_path, 20).claimed(MADE_BY, ["1.2"]):
        assert not left.exists()


@pytest.mark.parametrize(
    ("place", "value"),
    [((0, 3), 1.5), ((0, 3), -0.1), ((1, 0), 1e9), ((0, 4), -8.0), ((1, 4), "5"), ((0, 4), None)],
)
def test_a_record_with_an_impossible_number_is_computed_again(tmp_path, place, value):
    out = Predictions(tmp_path, 20)
    with out.claimed(MADE_BY, ["a"]):
        out.write("a", "stamp", FOUND)
    record = tmp_path / "scans" / "a.json"
    content = json.loads(record.read_text())
    content.pop("checksum")  # as an earlier version wrote it
    record.write_text(json.dumps(content))
    assert out.read("a", "stamp").n_dropped == 7
    content["candidates"][place[0]][place[1]] = value
    record.write_text(json.dumps(content))
    assert out.read("a", "stamp") is None


def test_a_record_that_differs_from_its_checksum_is_computed_again(tmp_path):
    out = Predictions(tmp_path, 20)
    with out.claimed(MADE_BY, ["a"]):
        out.write("a", "stamp", FOUND)
    record = tmp_path / "scans" / "a.json"
    record.write_text(record.read_text().replace("0.931", "0.731"))
    assert out.read("a", "stamp") is None
