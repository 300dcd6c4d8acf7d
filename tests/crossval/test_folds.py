"""Which training is evaluated on which fold, and which trainings are still missing."""

import json
from dataclasses import replace

import pytest
import yaml

from nodule_det.config.crossval import CrossvalConfig, Selection
from nodule_det.config.train import TrainConfig
from nodule_det.crossval.folds import (
    enqueue_missing,
    fold_parameters,
    fold_points,
    is_complete,
    n_others,
    require_complete,
    training_plan,
)
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.driver.forecast import SEARCH
from nodule_det.hpo.space.parsing import read_space
from nodule_det.hpo.study.inbox import enqueue
from nodule_det.hpo.study.study import Header, Study, StudyWriter
from nodule_det.hpo.study.trial import TrialState
from nodule_det.hpo.training.disk import best_numbers


def begin(plan):
    """Begin the study of a plan, and return its writer."""
    plan.folder.path.mkdir(parents=True, exist_ok=True)
    space = read_space(plan.study.search_space)
    return StudyWriter(plan.folder, lambda: 1.0, Header(id="cafe", space=space))


@pytest.fixture
def plan(tmp_path):
    """Plan the training of one fold."""
    parameters = fold_parameters((0, 1, 2), Selection.other)
    points = {"fold1": {"fold": 2, "test_fold": 1}}
    config = CrossvalConfig(out=str(tmp_path))
    return training_plan(
        tmp_path, parameters, points, config, TrainConfig(), SEARCH, without="folds=[...] can"
    )


def test_the_next_fold_chooses_the_checkpoint():
    assert fold_points("s", {0: 1, 2: 1, 5: 1}, (), Selection.other) == {
        0: {"fold": 2, "test_fold": 0},
        2: {"fold": 5, "test_fold": 2},
        5: {"fold": 0, "test_fold": 5},
    }


def test_a_fold_without_lesions_chooses_nothing_but_is_evaluated():
    assert fold_points("s", {0: 2, 1: 0, 2: 1, 3: 0}, (), Selection.other) == {
        0: {"fold": 2, "test_fold": 0},
        1: {"fold": 2, "test_fold": 1},
        2: {"fold": 0, "test_fold": 2},
        3: {"fold": 0, "test_fold": 3},
    }


@pytest.mark.parametrize(("selection", "fold"), [(Selection.other, 0), (Selection.same, 1)])
def test_a_fold_for_which_no_lesion_can_choose_a_checkpoint_is_refused(selection, fold):
    message = f"s has no lesions to choose the checkpoint of fold {fold} by with selection="
    with pytest.raises(ConfigError, match=message):
        fold_points("s", {0: 2, 1: 0, 2: 0}, (), selection)
    assert list(fold_points("s", {0: 2, 1: 0, 2: 0}, (0,), Selection.same)) == [0]


def test_folds_without_any_lesion_are_refused_before_anything_is_trained():
    message = r"folds=\[1, 2\]: train.store=s has no lesions in these folds, so there is no sensit"
    with pytest.raises(ConfigError, match=message):
        fold_points("s", {0: 2, 1: 0, 2: 0, 3: 1}, (1, 2), Selection.other)
    with pytest.raises(ConfigError, match="has no lesions in this fold"):
        fold_points("s", {0: 2, 1: 0, 2: 0, 3: 1}, (1,), Selection.other)
    assert len(fold_points("s", {0: 2, 1: 0, 2: 0, 3: 1}, (1, 3), Selection.other)) == 2


def test_a_fold_that_chooses_its_own_checkpoint_needs_only_two_folds():
    assert fold_points("s", {0: 1, 1: 1}, (), Selection.same) == {0: {"fold": 0}, 1: {"fold": 1}}
    with pytest.raises(ConfigError, match="has 2 folds, but selection=other needs at least 3"):
        fold_points("s", {0: 1, 1: 1}, (), Selection.other)


def test_folds_can_be_selected_and_unknown_ones_are_refused():
    assert list(fold_points("s", {0: 1, 1: 1, 2: 1}, (2,), Selection.other)) == [2]
    with pytest.raises(ConfigError, match=r"train.store=s has no fold 3, 4; it has \[0, 1, 2\]"):
        fold_points("s", {0: 1, 1: 1, 2: 1}, (4, 2, 3), Selection.other)


def test_the_search_space_lists_the_folds(plan, tmp_path):
    space = yaml.safe_load((tmp_path / "space.yaml").read_text())
    assert space == {"parameters": fold_parameters((0, 1, 2), Selection.other)}
    assert plan.study.trials == 1


def test_a_training_is_queued_once_however_often_the_command_runs(plan):
    for _ in range(3):
        enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_0.json"]


def test_points_without_a_training_are_named(plan):
    assert not is_complete(plan)
    with pytest.raises(StudyError, match="1 of 1 training has no result: fold1 was not ") as no:
        require_complete(plan)
    assert str(no.value).endswith("runs these trainings again, and folds=[...] can")


def test_a_study_killed_before_its_first_line_counts_as_missing(plan):
    plan.folder.path.mkdir(parents=True)
    plan.folder.journal.touch()
    enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_0.json"]


@pytest.mark.parametrize(
    ("past", "more"),
    [
        ([], 0),
        ([(0, "complete", None)], 1),  # folds=[0], then folds=[1]
        ([(0, "failed", "error"), (1, "failed", "error"), (1, "complete", None)], 2),
        ([(1, "cancelled", "user")], 0),  # which counts towards no goal
    ],
)
def test_other_folds_and_failed_trainings_leave_space_for_those_to_come(plan, past, more):
    plan.folder.path.mkdir(parents=True)
    space = read_space(plan.study.search_space)
    writer = StudyWriter(plan.folder, lambda: 1.0, Header(id="cafe", space=space))
    for fold, state, reason in past:
        point = {"fold": (fold + 1) % 3, "test_fold": fold}
        number = writer.ask(point, "user")
        writer.write("finished", trial=number, state=state, value=0.5, reason=reason)
    writer.close()
    assert n_others(plan.folder, plan.points) == more


def test_a_name_that_another_point_used_is_not_used_again(plan):
    """Such an entry is ignored: fold 1 had a failed training with another chooser."""
    plan.folder.path.mkdir(parents=True)
    space = read_space(plan.study.search_space)
    writer = StudyWriter(plan.folder, lambda: 1.0, Header(id="cafe", space=space))
    number = writer.ask({"fold": 0, "test_fold": 1}, "user", "fold1_0.json")
    writer.write("finished", trial=number, state="failed", reason="error")
    writer.close()
    for _ in range(2):
        enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_1.json"]


def queued(plan):
    """Return what is in the queue: points, or numbers of trials to cancel."""
    entries = [json.loads(path.read_text()) for path in sorted(plan.folder.queue.glob("*.json"))]
    return [entry.get("params") or entry["cancel"] for entry in entries]


def test_what_a_killed_command_with_other_folds_left_waiting_is_not_trained(plan):
    writer = begin(plan)
    running = writer.ask({"fold": 1, "test_fold": 0}, "user", "fold0_0.json")
    writer.write("intent", trial=running, attempt=1, name="nd-cafe-1-1")
    waiting = writer.ask({"fold": 0, "test_fold": 2}, "user", "fold2_0.json")
    writer.close()
    enqueue(plan.folder.queue, {"fold": 0, "test_fold": 2}, "fold2_1.json")
    assert n_others(plan.folder, plan.points) == 1  # the running one
    enqueue_missing(plan)
    assert queued(plan) == [waiting, plan.points["fold1"]]


def test_a_training_that_is_being_cancelled_is_queued_again(plan):
    """``stop=jobs`` was killed before the job had ended."""
    writer = begin(plan)
    number = writer.ask(plan.points["fold1"], "user", "fold1_0.json")
    writer.write("intent", trial=number, attempt=1, name="nd-cafe-1-1")
    writer.write("cancel", trial=number, reason="user")
    writer.close()
    enqueue_missing(plan)
    assert queued(plan) == [plan.points["fold1"]]


def test_a_training_whose_folder_was_deleted_is_trained_again(plan):
    writer = begin(plan)
    number = writer.ask(plan.points["fold1"], "user", "fold1_0.json")
    writer.write("finished", trial=number, state="complete", value=0.5, reason=None)
    writer.close()
    plan.folder.trial(number).mkdir(parents=True)
    assert is_complete(plan)
    enqueue_missing(plan)
    assert not plan.folder.queue.exists()
    plan.folder.trial(number).rmdir()
    assert not is_complete(plan)
    enqueue_missing(plan)
    assert [path.name for path in plan.folder.queue.iterdir()] == ["fold1_1.json"]


def test_many_trainings_without_a_result_make_one_line(plan):
    points = {f"fold{k}": {"fold": k, "test_fold": k + 1} for k in range(30)}
    with pytest.raises(StudyError) as no:
        require_complete(replace(plan, points=points))
    assert str(no.value).startswith("30 of 30 trainings have no result: fold0 was not trained; ")
    assert "fold4 was not trained; ...." in str(no.value)


def test_the_network_of_every_training_is_kept_however_many_there_are(tmp_path):
    """A model of 30 members lost 20 of them to ``keep.best=10``."""
    points = {f"fold{k}": {"fold": k, "test_fold": (k + 1) % 30} for k in range(30)}
    parameters = fold_parameters(tuple(range(30)), Selection.other)
    config = CrossvalConfig(out=str(tmp_path))
    plan = training_plan(tmp_path, parameters, points, config, TrainConfig(), SEARCH, without="")
    made = Study(Header(id="abc", space=read_space(plan.study.search_space)))
    for number, point in enumerate(points.values(), 1):
        record = {"trial": number, "t": float(number)}
        made.apply({**record, "kind": "asked", "params": point, "source": "user"})
        made.apply(
            {**record, "kind": "finished", "state": TrialState.COMPLETE, "value": 0.01 * number,
             "value_se": 0.05, "reason": None}
        )  # fmt: skip
    assert best_numbers(made, plan.study.keep.best) == set(range(1, 31))
