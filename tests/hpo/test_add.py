from tests.hpo.command_line import hpo, read_csv, tune


def test_points_and_results_are_added_through_the_queue(study, quick_training, tmp_path):
    new = tmp_path / "new"
    tune(new, quick_training, "trials=1")
    points = tmp_path / "points.yaml"
    usual = (
        "{patches.size_vox: 32, model.depth: 3, model.filters: 16, model.kernel_size: 3, "
        "model.residual: true, optim.batch_size: 8, optim.lr: 3e-4, optim.beta1: 0.95, "
        "augment.copies: 1, augment.shift_vox: 8, augment.rotate: true}"
    )
    points.write_text(f"- {usual}\n")
    added = hpo("nodule_det.hpo.add", f"study={new}", f"points={points}")
    assert added.stdout == f"queued 1 point for {new}\n"
    taken = hpo("nodule_det.hpo.add", f"study={new}", f"results={study}")
    assert taken.stdout.startswith("queued 3 results for ")
    tune(new, quick_training, "trials=2")
    rows = read_csv(new)
    n_imported = [r["source"] for r in rows].count("imported")
    assert n_imported >= 3
    again = hpo("nodule_det.hpo.add", f"study={new}", f"results={study}")
    assert again.stdout.startswith(
        f"queued 0 results for {new}; skipped {n_imported} that it already has"
    )
    back = hpo("nodule_det.hpo.add", f"study={study}", f"results={new}")
    assert f"; skipped {n_imported} that it already has" in back.stdout
    left = list((study / "queue").glob("*.json"))
    assert len(left) == 2  # what the new study ran itself
    for entry in left:
        entry.unlink()
    itself = hpo("nodule_det.hpo.add", f"study={new}", f"results={new}", code=2)
    assert "is this study itself" in itself.stderr
    shown = hpo("nodule_det.hpo.show", f"study={new}", "trial=3").stdout.splitlines()
    assert shown[-2] == "this study has not run it (imported); its command would be:"
    assert shown[-1].endswith(f"run_dir={new}/trials/0003")
    assert [r["optim.beta1"] for r in rows if r["source"] == "user"] == ["0.95"]
    points.write_text(f"- {usual.replace('optim.lr: 3e-4', 'optim.lr: 3')}\n")
    wrong = hpo("nodule_det.hpo.add", f"study={new}", f"points={points}", code=2)
    assert "point 1: optim.lr=3 is outside [1e-08, 0.01]" in wrong.stderr


def test_results_of_other_trainings_are_only_imported_on_request(study, quick_training, tmp_path):
    other = tmp_path / "other"
    tune(other, quick_training, "trials=1", "train.limits.epochs=7")
    words = ("nodule_det.hpo.add", f"study={other}", f"results={study}")
    refused = hpo(*words, code=2)
    assert "used another train: [] there, ['limits.epochs=7'] here" in refused.stderr
    assert not list(other.glob("queue/*.json"))
    hpo(*words, "other_trainings=true")
    assert list(other.glob("queue/result_*.json"))
