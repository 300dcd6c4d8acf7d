"""``nodule-det baseline`` as a user types it."""

import pytest

from nodule_det.baseline.__main__ import main
from nodule_det.errors import ConfigError, StoreError


def test_the_command_writes_luna16s_columns_for_the_requested_scans(store, tmp_path, monkeypatch):
    asked = store.scans[1].series_uid
    (tmp_path / "scans.csv").write_text(f"seriesuid\n{asked}\n")
    out = tmp_path / "new" / "candidates.csv"
    words = [f"store={store.path}", f"scans={tmp_path / 'scans.csv'}", f"out={out}"]
    monkeypatch.setattr("sys.argv", ["baseline", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "seriesuid,coordX,coordY,coordZ,probability,diameter_mm"
    assert {line.split(",")[0] for line in lines[1:]} == {asked}


def test_a_scan_that_the_store_lacks_is_named(store, tmp_path, monkeypatch, capsys):
    (tmp_path / "scans.csv").write_text("seriesuid\n1.2.3\n")
    words = [f"store={store.path}", f"scans={tmp_path / 'scans.csv'}"]
    monkeypatch.setattr("sys.argv", ["baseline", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == ConfigError.exit_code
    assert "does not have, the first 1.2.3" in capsys.readouterr().err


def test_a_missing_store_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["baseline", f"store={tmp_path / 'none'}"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == StoreError.exit_code
    assert "is not a store" in capsys.readouterr().err
