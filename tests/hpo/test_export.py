import pytest

from tests.hpo.command_line import hpo, read_csv


def test_the_csv_has_every_trial(study):
    rows = read_csv(study)
    assert [r["trial"] for r in rows] == [str(n) for n in range(1, len(rows) + 1)]
    assert all(float(r["pauc"]) == float(r["optim.beta1"]) for r in rows)


def test_the_optuna_view_has_the_same_values(study, tmp_path):
    optuna = pytest.importorskip("optuna")
    path = tmp_path / "view.log"
    hpo("nodule_det.hpo.export", f"study={study}", f"optuna={path}")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    view = optuna.load_study(study_name=None, storage=storage)
    rows = read_csv(study)
    assert [t.value for t in view.trials] == [float(r["pauc"]) for r in rows]
    assert view.best_value == max(float(r["pauc"]) for r in rows)
    assert hpo(
        "nodule_det.hpo.export", f"study={study}", f"optuna={path}", code=2
    ).stderr.startswith(f"error: optuna={path} already exists")
