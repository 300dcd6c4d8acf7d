"""``data verify``: the exit code and the lines of a whole and of a damaged store."""

from __future__ import annotations

import pytest

from nodule_det.data.verify import main
from tests.data.test_store import flip, make_store


@pytest.fixture
def verify(monkeypatch, capsys, tmp_path):
    def call():
        monkeypatch.setattr("sys.argv", ["verify", f"store={tmp_path}"])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, *capsys.readouterr()

    return call


def test_a_whole_store_passes(verify, tmp_path):
    make_store(tmp_path)
    assert verify() == (0, f"{tmp_path}: 2 scans checked, 0 problems\n", "")


def test_flipped_voxels_are_named_and_the_exit_code_is_1(verify, tmp_path):
    make_store(tmp_path)
    flip(tmp_path / "scans/1.2.1.npy", -7)
    code, out, err = verify()
    assert (code, out) == (1, f"{tmp_path}: 2 scans checked, 1 problem\n")
    assert err.splitlines()[0] == f"error: {tmp_path}/scans/1.2.1.npy differs from its checksum"


def test_a_missing_volume_is_named(verify, tmp_path):
    make_store(tmp_path)
    (tmp_path / "scans/1.2.1.npy").unlink()
    assert "1.2.1.npy cannot be read (No such file or directory)" in verify()[2]
