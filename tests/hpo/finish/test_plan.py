"""Which settings of a study are retrained, and with which seeds and folds."""

from types import SimpleNamespace

import pytest

from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError, StudyError
from nodule_det.hpo.finish.plan import best_settings, finish_plan, rate_here, train_settings
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, Study
from nodule_det.hpo.study.trial import Session, Trial, TrialState

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 0.001, "high": 0.1}}})


def study(*values, space=SPACE, **header):
    """Return a study of one complete trial per (learning rate, value)."""
    made = Study(Header(id="abc", space=space, **header))
    for number, (lr, value) in enumerate(values, 1):
        record = {"trial": number, "t": float(number)}
        made.apply({**record, "kind": "asked", "params": {"optim.lr": lr}, "source": "sobol"})
        made.apply(
            {**record, "kind": "finished", "state": TrialState.COMPLETE, "value": value,
             "value_se": 0.05, "reason": None}
        )  # fmt: skip
    return made


def test_a_small_study_is_ranked_by_its_values():
    chosen = best_settings(study((0.01, 0.5), (0.02, 0.9), (0.03, 0.7)), 2)
    assert [c.trial.number for c in chosen] == [2, 3]
    assert [c.expected for c in chosen] == [None, None]


def test_a_setting_that_was_tried_twice_is_retrained_once():
    chosen = best_settings(study((0.01, 0.8), (0.01, 0.9), (0.02, 0.7)), 2)
    assert [c.trial.params["optim.lr"] for c in chosen] == [0.01, 0.02]


def test_the_largest_value_is_always_retrained_to_show_its_optimism():
    # a smooth bump around 0.05, and one lucky value far from it
    values = [(0.01 * k, 0.8 - 10 * (0.01 * k - 0.05) ** 2) for k in range(1, 10)]
    chosen = best_settings(study(*values, (0.0999, 0.83)), 1)
    numbers = [c.trial.number for c in chosen]
    assert 10 in numbers
    assert chosen[0].expected is not None


def test_a_study_without_a_value_is_refused():
    with pytest.raises(StudyError, match="no complete trial yet"):
        best_settings(study(), 3)


def test_excluded_trials_are_not_retrained_even_the_best_one():
    made = study((0.01, 0.5), (0.02, 0.9), (0.03, 0.7), (0.02, 0.8))
    chosen = best_settings(made, 1, exclude=[2])  # and trial 4, which has the same settings
    assert [c.trial.number for c in chosen] == [3]
    with pytest.raises(StudyError, match="trial=9 is not in this study, which has 1 to 4"):
        best_settings(made, 1, exclude=[9])
    with pytest.raises(StudyError, match=r"exclude=\[1, 2, 3\] leaves no complete trial"):
        best_settings(made, 1, exclude=[1, 2, 3])


def test_every_setting_is_trained_with_every_seed_and_fold(tmp_path):
    config = FinishConfig(study=str(tmp_path / "s"), seeds=[0, 7])
    made = study((0.01, 0.5), train=("store=stores/a", "fold=2", "model.depth=4"))
    contenders = best_settings(made, 1)
    plan, folds = finish_plan(config, made, contenders, {0: 4, 1: 4, 2: 4}, tmp_path)
    assert folds == (0, 1, 2)
    assert plan.points["trial1-seed7-fold2"] == {
        "optim.lr": 0.01, "fold": 0, "test_fold": 2, "seed": 7,
    }  # fmt: skip
    assert len(plan.points) == 6
    assert (plan.study.train.store, plan.study.train.model.depth) == ("stores/a", 4)
    assert plan.study.train.fold == 0


def test_the_study_says_how_fast_the_system_is_unless_it_ran_on_another(tmp_path):
    config, train = FinishConfig(study=str(tmp_path / "s")), TrainConfig(store="stores/a")
    done = Trial(
        number=1, params={"optim.lr": 0.01}, state=TrialState.COMPLETE, imported_seconds=60.0
    )
    made = SimpleNamespace(sessions=[], trials=[done])
    rate = rate_here(config, made, train)
    assert rate.source == "as fast as the complete training of this study"
    made.sessions.append(Session("node1", 1, 1, "slurm", 0.0))
    assert rate_here(config, made, train) is None
    made.sessions.append(Session("node1", 1, 1, "local", 0.0))
    assert rate_here(config, made, train) == rate


def test_a_study_that_tuned_the_seed_or_another_program_is_refused():
    space = parse_space({"parameters": {"seed": {"kind": "int", "low": 0, "high": 9}}})
    with pytest.raises(ConfigError, match="the study tuned seed, which finish sets itself"):
        train_settings(Header(id="abc", space=space))
    space = parse_space({"parameters": {"store": {"kind": "categorical", "values": ["a", "b"]}}})
    with pytest.raises(ConfigError, match="tuned store, so its trials are not comparable"):
        train_settings(Header(id="abc", space=space))
    with pytest.raises(ConfigError, match=r"tuned another program \(bash my\.sh\)"):
        train_settings(Header(id="abc", space=SPACE, command=("bash", "my.sh")))


def test_a_study_cannot_have_code_imported_that_the_user_did_not_name(tmp_path, capsys):
    train = ("store=stores/a", "model.factory=planted.net", "model.kwargs={width: 4}")
    made = study((0.01, 0.5), train=train)
    contenders = best_settings(made, 1)
    words = "trains model.factory=planted.net, which runs code outside nodule_det; if you trust"
    for factory in ("", "planted.other"):
        config = FinishConfig(study=str(tmp_path / "s"), factory=factory)
        with pytest.raises(ConfigError, match=words):
            finish_plan(config, made, contenders, {0: 4, 1: 4, 2: 4}, tmp_path)
    config = FinishConfig(study=str(tmp_path / "s"), factory="planted.net")
    plan, _ = finish_plan(config, made, contenders, {0: 4, 1: 4, 2: 4}, tmp_path)
    assert plan.study.train.model.kwargs == {"width": 4}
    said = capsys.readouterr().err
    assert "model.factory=planted.net cannot be imported" in said
    assert "If it does, its trainings need folds=[0] and one seed" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("changes", [{}, {"folds": [0], "seeds": [0, 1]}, {"folds": [0]}])
def test_a_detector_on_several_folds_or_seeds_is_refused_before_anything_is_queued(
    tmp_path, changes
):
    factory = "tests.train.bright_boxes.BrightBoxes"
    made = study((0.01, 0.5), train=("store=stores/a", f"model.factory={factory}"))
    config = FinishConfig(study=str(tmp_path / "s"), factory=factory, **changes)
    arguments = (config, made, best_settings(made, 1), {0: 4, 1: 4, 2: 4}, tmp_path / "out")
    if changes == {"folds": [0]}:
        assert len(finish_plan(*arguments)[0].points) == 1
        return
    message = f"model.factory={factory} finds candidates itself, and those of several folds or"
    with pytest.raises(ConfigError, match=message):
        finish_plan(*arguments)
    assert not (tmp_path / "out").exists()
