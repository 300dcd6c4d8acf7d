"""Small files of a run in one archive, which commands read like the files themselves."""

import os
import zipfile

import pytest

from nodule_det.errors import TableError
from nodule_det.packing import pack, read_packed, unpacked
from nodule_det.runs import RunFolder


@pytest.fixture
def run(tmp_path):
    """A run folder with some small files and a checkpoint."""
    run = RunFolder(tmp_path / "0001")
    (run.path / "attempt_1").mkdir(parents=True)
    for path in (run.log, run.scans, run.froc, run.checkpoint_best, run.path / "attempt_1/job.sh"):
        path.write_text(f"content of {path.name}")
    return run


def files(run):
    return [run.log, run.scans, run.froc, run.path / "attempt_1/job.sh"]


def test_packed_files_are_read_like_files(run):
    before = {p.relative_to(run.path).as_posix(): p.read_bytes() for p in files(run)}
    assert [read_packed(run.path, name, 100) for name in before] == list(before.values())
    assert pack(run.path, files(run)) == 4
    assert not any(p.exists() for p in files(run))
    assert [read_packed(run.path, name, 100) for name in before] == list(before.values())
    with zipfile.ZipFile(run.archive) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(before)


def test_packing_again_changes_nothing(run):
    pack(run.path, files(run))
    archive = run.archive.read_bytes()
    assert pack(run.path, files(run)) == pack(run.path, []) == 0
    assert run.archive.read_bytes() == archive


def test_a_file_newer_than_the_archive_is_kept(run):
    pack(run.path, files(run))
    run.log.write_text("another, longer log than before")
    run.scans.write_text("content of scans.csv")  # left by a kill in between
    run.candidates.write_text("written by a late job")
    assert pack(run.path, [*files(run), run.candidates]) == 1
    assert read_packed(run.path, "train.log", 100) == b"another, longer log than before"
    assert not run.scans.exists()
    assert run.candidates.exists()


def test_links_are_not_packed(run, tmp_path):
    elsewhere = tmp_path / "precious"
    elsewhere.write_text("precious")
    os.symlink(elsewhere, run.candidates)
    assert pack(run.path, [run.candidates]) == 0
    assert run.candidates.is_symlink()
    assert not run.archive.exists()


def test_an_unpacked_run_has_its_tables_without_its_checkpoints(run):
    with unpacked(run.path) as same:
        assert same.path == run.path
    pack(run.path, files(run))
    with unpacked(run.path) as copy:
        assert copy.scans.read_text() == "content of scans.csv"
        assert sorted(p.name for p in copy.path.iterdir()) == [
            "froc.json",
            "scans.csv",
            "train.log",
        ]
    assert not copy.path.exists()


def test_a_file_in_neither_place_does_not_exist(run):
    with pytest.raises(FileNotFoundError, match=r"files\.zip"):
        read_packed(run.path, "train.lag", 100)
    pack(run.path, files(run))
    with pytest.raises(FileNotFoundError, match=r"train\.lag does not exist, nor in files\.zip"):
        read_packed(run.path, "train.lag", 100)


def test_a_damaged_archive_and_one_of_a_bomb_are_refused(run):
    pack(run.path, files(run))
    with pytest.raises(TableError, match=r"train\.log in .*files\.zip is larger than 5 bytes"):
        read_packed(run.path, "train.log", 5)
    whole = run.archive.read_bytes()
    flipped = whole[:45] + bytes([whole[45] ^ 255]) + whole[46:]  # in the first file's content
    for damaged in (b"no archive", whole[: len(whole) // 2], flipped):
        run.archive.write_bytes(damaged)
        with (
            pytest.raises(TableError, match=r"files\.zip is damaged: .*; copy the run folder"),
            unpacked(run.path),
        ):
            pass
