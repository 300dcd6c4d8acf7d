from tests.hpo.command_line import hpo


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


def test_checkpoints_and_small_files_of_all_but_the_best_are_removed(study):
    for number in (1, 2, 3):
        for name in ("last.pt", "best.pt", "train.log"):
            (study / f"trials/000{number}" / name).write_bytes(b"x")
    run = hpo("nodule_det.hpo.prune", f"study={study}", "keep_best=1", "remove=true")
    assert "removed 5 checkpoints (0.00 GB), packed " in run.stdout
    best = [name for name in files(study) if name.endswith("best.pt")]
    assert len(best) == 1
    assert (study / best[0]).with_name("train.log").exists()
    assert sum(name.endswith("files.zip") for name in files(study)) == 2
    status = hpo("nodule_det.hpo.status", f"study={study}").stdout
    assert "3 complete, 0 failed" in status
    assert "job.sh" not in hpo("nodule_det.hpo.show", f"study={study}", "trial=1").stderr
    again = hpo("nodule_det.hpo.prune", f"study={study}", "keep_best=1", "remove=true")
    assert "removed 0 checkpoints (0.00 GB), packed 0 small files of 0 trials" in again.stdout
