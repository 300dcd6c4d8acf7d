"""The plan of the one job that tests a model, and what its figures are called."""

import json

import pytest
import torch

from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.config.train import TrainConfig
from nodule_det.crossval.folds import enqueue_missing
from nodule_det.ensemble.folder import Model, write_model
from nodule_det.errors import StudyError
from nodule_det.hpo.finish.test_set import figures_of, scoring_plan
from nodule_det.runs import RunFolder

CONFIG = FinishConfig(study="s")


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a model folder whose one member holds a number."""

    def make(number):
        torch.save(number, tmp_path / "a.pt")
        write_model(Model(path=tmp_path / "model", members=(tmp_path / "a.pt",)))
        return tmp_path / "model"

    return make


def test_the_same_weights_are_tested_in_the_same_folder_and_others_in_another(model, tmp_path):
    one = scoring_plan(CONFIG, tmp_path, model(1), TrainConfig())
    again = scoring_plan(CONFIG, tmp_path, model(1), TrainConfig())
    other = scoring_plan(CONFIG, tmp_path, model(2), TrainConfig())
    assert one.study == again.study
    assert one.folder.path != other.folder.path
    assert one.folder.path.parent == tmp_path / "test"
    assert one.study.command[1:4] == ["-m", "nodule_det.score", f"model={tmp_path / 'model'}"]


def test_a_network_of_ones_own_is_tested_with_its_factory(model, tmp_path):
    config = FinishConfig(study="s", factory="mine.net")
    plan = scoring_plan(config, tmp_path, model(1), TrainConfig())
    assert "factory=mine.net" in plan.study.command
    plain = scoring_plan(CONFIG, tmp_path, model(1), TrainConfig())
    assert not any(word.startswith("factory") for word in plain.study.command)


def test_the_label_says_how_many_models_were_tested(model, tmp_path):
    run = RunFolder(tmp_path)
    run.froc.write_text(json.dumps({"pauc": 0.5}))
    labels = []
    for number in (1, 2, 3):
        plan = scoring_plan(CONFIG, tmp_path, model(number), TrainConfig())
        enqueue_missing(plan)
        plan.folder.journal.write_text('{"kind": "study"}\n')
        labels.append(figures_of(run, tmp_path / "test")["label"])
    assert labels == [
        "test, evaluated once",
        "test, the 2nd model on this test set",
        "test, the 3rd model on this test set",
    ]


def test_missing_figures_are_named(tmp_path):
    with pytest.raises(StudyError, match=r"froc\.json is missing or damaged"):
        figures_of(RunFolder(tmp_path), tmp_path)
