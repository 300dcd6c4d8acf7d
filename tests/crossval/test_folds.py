"""Which training is evaluated on which fold, and which folds are still missing."""

from dataclasses import replace

import pytest
import yaml

from nodule_det.config.crossval import CrossvalConfig, Selection
from nodule_det.crossval.folds import enqueue_missing, fold_study, require_complete
from nodule_det.errors import ConfigError, StudyError


def config(tmp_path, **changes):
    return replace(CrossvalConfig(out=str(tmp_path)), **changes)


def test_the_next_fold_chooses_the_checkpoint(tmp_path):
    plan = fold_study(config(tmp_path), (0, 2, 5), tmp_path)
    assert plan.points == {
        0: {"fold": 2, "test_fold": 0},
        2: {"fold": 5, "test_fold": 2},
        5: {"fold": 0, "test_fold": 5},
    }
    assert plan.study.trials == 3
    space = yaml.safe_load((tmp_path / "folds.yaml").read_text())
    assert space["parameters"]["test_fold"] == {"kind": "categorical", "values": [0, 2, 5]}


def test_a_fold_that_chooses_its_own_checkpoint_needs_two_folds_only(tmp_path):
    same = config(tmp_path, selection=Selection.same)
    assert fold_study(same, (0, 1), tmp_path).points == {0: {"fold": 0}, 1: {"fold": 1}}
    with pytest.raises(ConfigError, match="has 2 folds, and selection=other needs at least 3"):
        fold_study(config(tmp_path), (0, 1), tmp_path)


def test_a_fold_is_queued_once_however_often_the_command_starts(tmp_path):
    plan = fold_study(config(tmp_path, folds=[1]), (0, 1, 2), tmp_path)
    for _ in range(3):
        enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_0.json"]


def test_folds_without_a_training_are_named(tmp_path):
    plan = fold_study(config(tmp_path), (0, 1, 2), tmp_path)
    with pytest.raises(StudyError, match="3 of 3 folds have no result: fold 0 was not trained"):
        require_complete(plan)


def test_a_study_killed_before_its_first_line_counts_as_none(tmp_path):
    plan = fold_study(config(tmp_path, folds=[1]), (0, 1, 2), tmp_path)
    plan.folder.path.mkdir(parents=True)
    plan.folder.journal.touch()
    enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_0.json"]
