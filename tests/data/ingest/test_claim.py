"""Who may write where: refusals before the first scan is read."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from nodule_det.config.data import StoreConfig
from nodule_det.data.ingest.claim import OLD_SCANS, claimed, refuse_strangers
from nodule_det.data.ingest.keys import Keys
from nodule_det.data.scan import ScanEntry
from nodule_det.data.store import open_store, read_info
from nodule_det.errors import BusyError, StoreError

KEYS = Keys(b"s" * 32, anonymise=False)


def claim(store, spacing_mm=1.0, overwrite=False):
    settings = StoreConfig(spacing_mm=spacing_mm)
    with claimed(store, settings, KEYS, overwrite=overwrite) as folder:
        return folder


def entry(uid):
    return ScanEntry(uid, Path(f"{uid}.mhd"), uid)


def finished(store):
    """Make a store of one scan, as far as claiming looks at it."""
    folder = claim(store)
    (folder / "1.2.json").write_text("{}")
    (store / "splits.json").write_text(json.dumps({"how": {}, "folds": {}}))
    return folder


def test_a_new_folder_becomes_a_store_of_these_settings(tmp_path):
    assert claim(tmp_path / "new/store").is_dir()
    assert read_info(tmp_path / "new/store").settings == {"spacing_mm": 1.0, "margin_mm": 12.0}


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(
        StoreError, match=r"holds thesis\.tex and no store\.json, so it is not a store"
    ):
        claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_store_of_other_settings_is_refused_with_both_values(tmp_path):
    finished(tmp_path)
    with pytest.raises(
        StoreError, match=r"store\.spacing_mm=1\.0, but you requested 0\.7; .* overwrite=true"
    ):
        claim(tmp_path, 0.7)
    assert (tmp_path / "scans/1.2.json").exists()


def test_overwriting_never_follows_a_link_to_the_scans(tmp_path):
    finished(tmp_path)
    (tmp_path / "scans").rename(tmp_path / "elsewhere")
    (tmp_path / "scans").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"scans is a link to \S+elsewhere, which overwrite=true"):
        claim(tmp_path, overwrite=True)
    assert (tmp_path / "elsewhere/1.2.json").exists()
    assert (tmp_path / "splits.json").exists()


@pytest.mark.parametrize("content", ["{", "", '{"format": 1}'])
def test_a_damaged_store_is_replaced_only_on_request(tmp_path, content):
    finished(tmp_path)
    (tmp_path / "store.json").write_text(content)
    with pytest.raises(StoreError, match=r"store\.json is damaged .* overwrite=true"):
        claim(tmp_path)
    assert list(claim(tmp_path, overwrite=True).iterdir()) == []


def test_overwriting_leaves_nothing_of_the_old_store(tmp_path):
    finished(tmp_path)
    assert list(claim(tmp_path, 0.7, overwrite=True).iterdir()) == []
    assert read_info(tmp_path).settings == {"spacing_mm": 0.7, "margin_mm": 12.0}
    with pytest.raises(StoreError, match="is incomplete"):
        open_store(tmp_path)


def test_what_an_interrupted_overwriting_left_is_swept_away(tmp_path):
    finished(tmp_path)
    (tmp_path / "scans").rename(tmp_path / OLD_SCANS)
    assert list(claim(tmp_path).iterdir()) == []
    assert not (tmp_path / OLD_SCANS).exists()


def test_two_ingests_do_not_meet_in_one_store(tmp_path):
    claim(tmp_path)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as an earlier version holds it
        with pytest.raises(BusyError, match=r"out=\S+ is in use by another ingest"):
            claim(tmp_path)
    with (
        claimed(tmp_path, StoreConfig(), KEYS),
        pytest.raises(BusyError, match=r"out=\S+ is in use by another ingest"),
    ):
        claim(tmp_path)
    claim(tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_scans_of_another_data_set_are_not_mixed_in(tmp_path):
    folder = finished(tmp_path)
    refuse_strangers(folder, [entry("1.2"), entry("1.3")])
    with pytest.raises(StoreError, match=r"holds 1 scan that source= does not have.* is 1\.2;"):
        refuse_strangers(folder, [entry("1.3")])


def test_an_error_while_the_store_is_held_names_the_store(tmp_path):
    with (
        pytest.raises(StoreError, match=r"out=.*store cannot be written \(No space left on device"),
        claimed(tmp_path / "store", StoreConfig(), KEYS),
    ):
        raise OSError(28, "No space left on device")
