"""Keys from a secret: random without it, the same with it, and never a name."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pydicom.uid
import pytest

from nodule_det.data.ingest.keys import Keys, allowed, left_out, make_secret, read_secret
from nodule_det.data.layouts.detect import list_scans
from nodule_det.data.readers.dicom_header import patient_key
from nodule_det.data.scan import Finding, ScanEntry
from nodule_det.data.store import open_store
from nodule_det.errors import StoreError
from tests.data.chests import write_folder
from tests.data.ingest.test_ingest import command, config, ingest, run_ingest

KEYS = Keys(b"a" * 32, anonymise=True)


def test_a_key_depends_on_the_secret_and_the_name_only():
    assert KEYS.patient("p") == Keys(b"a" * 32, anonymise=False).patient("p") != KEYS.patient("q")
    assert KEYS.patient("p") != Keys(b"b" * 32, anonymise=True).patient("p")
    assert KEYS.scan("p") not in (KEYS.patient("p"), KEYS.stamp("p"))


def test_an_anonymised_scan_has_a_valid_uid():
    assert pydicom.uid.UID(KEYS.scan("Müller_Jürgen")).is_valid
    assert replace(KEYS, anonymise=False).scan("1.2.3") == "1.2.3"


def test_a_secret_is_made_once_and_for_its_owner(tmp_path):
    secret = make_secret(tmp_path / "a.secret")
    assert len(secret) == 32
    assert make_secret(tmp_path / "a.secret") == secret == read_secret(tmp_path / "a.secret")
    assert stat.S_IMODE((tmp_path / "a.secret").stat().st_mode) == 0o600
    assert make_secret(tmp_path / "b.secret") != secret


@pytest.mark.parametrize("content", ["", "abc", "x" * 64, "0" * 2000])
def test_a_damaged_secret_is_refused(tmp_path, content):
    (tmp_path / "a.secret").write_text(content)
    with pytest.raises(StoreError, match=r"secret=\S+a\.secret"):
        read_secret(tmp_path / "a.secret")


def test_a_secret_that_everybody_may_read_is_refused(tmp_path):
    make_secret(tmp_path / "a.secret")
    (tmp_path / "a.secret").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        read_secret(tmp_path / "a.secret")


def test_only_listed_columns_are_kept_and_free_text_is_refused():
    found = Finding((0.0, 0.0, 0.0), 5.0, attributes={"texture": "solid", "remark": "Mrs Miller"})
    entry = ScanEntry("a", Path("a.mhd"), "p", (found,))
    assert allowed(entry, []).findings[0].attributes == {"texture": "solid"}
    assert allowed(entry, ["remark"]).findings[0].attributes == found.attributes
    assert left_out([entry], []) == ["remark"]
    long = replace(entry, findings=(replace(found, attributes={"remark": "x" * 65}),))
    with pytest.raises(StoreError, match="is it free text"):
        allowed(long, ["remark"])


def test_a_store_knows_no_hash_that_can_be_reversed(tmp_path):
    run_ingest(write_folder(tmp_path, 2), tmp_path / "store")
    text = "".join(p.read_text() for p in (tmp_path / "store").rglob("*.json"))
    assert patient_key("scan0") not in text
    assert (tmp_path / "store.secret").exists()


def test_two_stores_of_one_secret_have_the_same_patients(tmp_path):
    source, secret = write_folder(tmp_path, 1), str(tmp_path / "site.secret")
    keys = []
    for name in ("one", "two"):
        run_ingest(source, tmp_path / name, secret=secret)
        keys.append(open_store(tmp_path / name).scans[0].patient_key)
    run_ingest(source, tmp_path / "three")
    assert keys[0] == keys[1] != open_store(tmp_path / "three").scans[0].patient_key


def test_a_store_without_its_secret_or_with_another_is_refused(tmp_path):
    source = write_folder(tmp_path, 1)
    run_ingest(source, tmp_path / "store")
    (tmp_path / "store.secret").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"is not at \S+store\.secret; restore that file"):
        run_ingest(source, tmp_path / "store")
    make_secret(tmp_path / "other")
    with pytest.raises(StoreError, match="was made with another secret"):
        run_ingest(source, tmp_path / "store", secret=str(tmp_path / "other"))
    run_ingest(source, tmp_path / "store", secret=str(tmp_path / "elsewhere"))


def as_an_earlier_version(store, entries):
    """Turn a store into what the version without secrets would have left."""
    for file in [*(store / "scans").glob("*.json"), store / "splits.json", store / "store.json"]:
        content = json.loads(file.read_text())
        for key in ("checksum", "checksums", "secret_id", "anonymised"):
            content.pop(key, None)
        if "patient_key" in content:
            content["patient_key"] = patient_key(file.stem)
        if "patients" in content:
            folds = content["folds"]
            content["patients"] = {e.patient_key: folds[e.series_uid] for e in entries}
        file.write_text(json.dumps(content))


def test_an_old_store_is_migrated_on_request_and_keeps_its_folds(tmp_path):
    source = write_folder(tmp_path, 3)
    settings = config(source, tmp_path / "store")
    entries = list_scans(settings)
    ingest(entries, settings)
    folds = {s.series_uid: s.fold for s in open_store(tmp_path / "store").scans}
    as_an_earlier_version(tmp_path / "store", entries)
    assert {s.series_uid: s.fold for s in open_store(tmp_path / "store").scans} == folds
    with pytest.raises(StoreError, match="add migrate=true"):
        ingest(entries, settings)
    settings.migrate = True
    for _ in range(2):  # again does no harm
        ingest(entries, settings)
        store = open_store(tmp_path / "store")
        assert {s.series_uid: s.fold for s in store.scans} == folds
        text = "".join(p.read_text() for p in (tmp_path / "store").rglob("*.json"))
        assert not [e for e in entries if e.patient_key in text]


def test_an_anonymised_store_is_mapped_back_by_its_private_table(tmp_path):
    source = write_folder(tmp_path, 2)
    (source / "scan1.raw").write_bytes(b"")
    words = command(source, tmp_path / "store", "anonymise=true", "workers=1")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "scan1" not in done.stdout + done.stderr
    names = tmp_path / "store.names.csv"
    assert stat.S_IMODE(names.stat().st_mode) == 0o600
    (scan,) = open_store(tmp_path / "store").scans
    assert f"{scan.series_uid},scan0," in names.read_text()
    assert "scan1.raw" in names.read_text()  # why that one failed
    (tmp_path / "found.csv").write_text(f"seriesuid,probability\n{scan.series_uid},0.5\n")
    mapped = [
        sys.executable, "-m", "nodule_det.data.names", f"names={names}",
        f"table={tmp_path / 'found.csv'}", f"out={tmp_path / 'mapped.csv'}",
    ]  # fmt: skip
    subprocess.run(mapped, check=True, capture_output=True)
    assert (tmp_path / "mapped.csv").read_text() == "seriesuid,probability\nscan0,0.5\n"
    with pytest.raises(StoreError, match="made with anonymise=true, but you requested false"):
        run_ingest(source, tmp_path / "store")
