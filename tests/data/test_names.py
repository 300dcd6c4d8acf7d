"""``data names``: results of an anonymised store under the original names."""

from __future__ import annotations

import stat

import pytest

from nodule_det.data.names import main


@pytest.fixture
def names(monkeypatch, capsys, tmp_path):
    (tmp_path / "names.csv").write_text("seriesuid,original\n2.25.1,Anna\n2.25.2,Berta\n")

    def call(table):
        (tmp_path / "table.csv").write_text(table)
        words = [f"{name}={tmp_path / name}.csv" for name in ("names", "table", "out")]
        monkeypatch.setattr("sys.argv", ["names", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err

    return call


def test_keys_become_names_and_the_rest_stays(names, tmp_path):
    assert names("seriesuid,coordX\n2.25.2,1.5\n2.25.1,2.5\n") == (0, "")
    assert (tmp_path / "out.csv").read_text() == "seriesuid,coordX\nBerta,1.5\nAnna,2.5\n"
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600


def test_a_key_of_another_store_is_refused(names, tmp_path):
    code, err = names("seriesuid\n2.25.3\n")
    assert code == 1
    assert "has 1 scan that" in err
    assert "the first is 2.25.3" in err
    assert not (tmp_path / "out.csv").exists()
