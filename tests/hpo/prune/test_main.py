import zipfile

import pytest

from tests.hpo.command_line import hpo


@pytest.fixture
def study(study):
    """Return a study whose driver ran with ``keep.pack=false``, or was of an earlier version."""
    for archive in sorted(study.rglob("files.zip")):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(archive.parent)
        archive.unlink()
    return study


def files(study):
    return sorted(p.relative_to(study).as_posix() for p in study.rglob("*") if p.is_file())


def test_nothing_is_removed_without_remove_true(study):
    for number in (1, 2, 3):
        (study / f"trials/000{number}/last.pt").write_bytes(b"x" * 1000)
    before = files(study)
    run = hpo("nodule_det.hpo.prune", f"study={study}", "keep_best=1")
    assert "can remove 3 checkpoints (0.00 GB) and pack " in run.stdout
    assert run.stdout.endswith("add remove=true to do it\n")
    assert files(study) == before


def test_checkpoints_are_removed_and_small_files_packed(study):
    for number in (1, 2, 3):
        for name in ("last.pt", "best.pt"):
            (study / f"trials/000{number}" / name).write_bytes(b"x")
    shown = hpo("nodule_det.hpo.show", f"study={study}", "trial=1").stdout
    run = hpo("nodule_det.hpo.prune", f"study={study}", "keep_best=1", "remove=true")
    assert "removed 5 checkpoints (0.00 GB), packed 3 small files of 3 trials" in run.stdout
    left = files(study)
    assert sum(name.endswith("best.pt") for name in left) == 1
    assert sum(name.endswith("files.zip") for name in left) == 3
    assert not [name for name in left if name.endswith("job.sh")]
    assert "3 complete, 0 failed" in hpo("nodule_det.hpo.status", f"study={study}").stdout
    assert hpo("nodule_det.hpo.show", f"study={study}", "trial=1").stdout == shown
    again = hpo("nodule_det.hpo.prune", f"study={study}", "keep_best=1", "remove=true")
    assert "removed 0 checkpoints (0.00 GB), packed 0 small files of 0 trials" in again.stdout
