"""The plan of the one job that tests a model, and what its figures are called."""

import json
from dataclasses import replace

import pytest
import torch

from nodule_det.config.hpo import Stop
from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.config.train import CandidateConfig, TrainConfig
from nodule_det.crossval.folds import enqueue_missing
from nodule_det.ensemble.folder import Model, write_model
from nodule_det.errors import StudyError
from nodule_det.hpo.finish.test_set import figures_of, scoring_plan
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.study.study import Header, StudyWriter
from nodule_det.runs import RunFolder

CONFIG = FinishConfig(study="s")
FIGURES = {"pauc": 0.5, "pauc_interval": [0.25, 0.75], "cpm": 0.5, "n_scans": 4, "n_lesions": 8}


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
    run.froc.write_text(json.dumps(FIGURES))
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


@pytest.mark.parametrize("n", [11, 12, 21, 22, 101, 111])
def test_many_models_are_numbered_as_in_english(tmp_path, n):
    ordinals = {11: "11th", 12: "12th", 21: "21st", 22: "22nd", 101: "101st", 111: "111th"}
    for k in range(n):
        (tmp_path / "test" / f"{k}").mkdir(parents=True)
        (tmp_path / "test" / f"{k}" / "journal.jsonl").write_text('{"kind": "study"}\n')
    RunFolder(tmp_path).froc.write_text(json.dumps(FIGURES))
    label = figures_of(RunFolder(tmp_path), tmp_path / "test")["label"]
    assert label == f"test, the {ordinals[n]} model on this test set"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "[]",
        "{",
        json.dumps({**FIGURES, "pauc": None}),
        json.dumps({**FIGURES, "pauc": "0.5"}),
        json.dumps({**FIGURES, "pauc_interval": None}),
        json.dumps({**FIGURES, "pauc_interval": [0.1]}),
        json.dumps({**FIGURES, "pauc_interval": [0.1, True]}),
        json.dumps({**FIGURES, "n_scans": 4.5}),
    ],
)
def test_missing_and_damaged_figures_are_named(tmp_path, content):
    run = RunFolder(tmp_path)
    if content is not None:
        run.froc.write_text(content)
    with pytest.raises(StudyError, match=r"froc\.json (is missing|is damaged|has no pAUC)"):
        figures_of(run, tmp_path)


def test_the_test_searches_for_candidates_as_the_chosen_setting_did(model, tmp_path):
    train = TrainConfig(candidates=CandidateConfig(merge_mm=9.0))
    plan = scoring_plan(CONFIG, tmp_path, model(1), train)
    assert "candidates.merge_mm=9.0" in plan.study.command


def test_the_jobs_of_a_test_can_be_cancelled_whatever_was_chosen(model, tmp_path):
    plan = scoring_plan(CONFIG, tmp_path, model(1), TrainConfig())
    space = read_space(plan.study.search_space)
    header = Header(id="cafe", space=space, command=("python", "as-it-was-started"))
    StudyWriter(plan.folder, lambda: 1.0, header).close()
    stopping = replace(CONFIG, stop=Stop.jobs)
    again = scoring_plan(stopping, tmp_path, tmp_path / "model", TrainConfig())
    assert again.study.command == ["python", "as-it-was-started"]
