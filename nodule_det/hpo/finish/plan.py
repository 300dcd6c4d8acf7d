"""The trainings that turn a study into a model: its best settings on every fold with every seed.

Study ──best_settings()──▶ Contender ──finish_plan()──▶ TrainingPlan
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodule_det.config.hpo_finish import MAX_SEED, FinishConfig
from nodule_det.config.train import ModelConfig, TrainConfig
from nodule_det.crossval.folds import TrainingPlan, fold_parameters, fold_points, training_plan
from nodule_det.errors import ConfigError, StudyError
from nodule_det.forecast.forecast import Rate
from nodule_det.hpo.driver.forecast import Plan, rate_of
from nodule_det.hpo.model.expected import rank
from nodule_det.hpo.study.study import Header, Study
from nodule_det.hpo.study.trial import Trial
from nodule_det.hpo.training.check import with_params
from nodule_det.usage import parse_overrides

OWN = ("fold", "test_fold", "seed")
"""Settings that finish sets itself, so a study must not have tuned them."""
SHARED = ("store",)
"""Settings that must be the same for all trainings, since they are compared scan by scan."""


@dataclass(frozen=True)
class Contender:
    """One setting of a study that is retrained."""

    trial: Trial
    expected: float | None
    """Posterior mean of its value; None in a study too small for a model."""
    expected_sd: float | None

    def training(self, seed: int, fold: int) -> str:
        """Return the name of one of its trainings."""
        return f"trial{self.trial.number}-seed{seed}-fold{fold}"


def best_settings(study: Study, n: int, exclude: Sequence[int] = ()) -> list[Contender]:
    """Return the ``n`` settings with the highest posterior mean, and the trial with the best value.

    Args:
        study: The study.
        n: Number of settings.
        exclude: Numbers of trials whose settings are left out.

    The largest of many noisy values is partly luck, so the choice does not rely on it.  It is
    retrained to show its optimism.  A study too small for a model is ranked by its values.

    Raises:
        StudyError: If no trial is complete, all are excluded, or an excluded one does not exist.
    """
    if study.best() is None:
        raise StudyError(
            "the study has no complete trial yet; continue it with nodule_det.hpo, or use "
            "nodule_det.hpo.status to see why its trials failed"
        )
    without = [study.trial(number).params for number in exclude]
    complete = [t for t in study.trials if t.value is not None and t.params not in without]
    if not complete:
        raise StudyError(f"exclude={list(exclude)} leaves no complete trial of the study")
    complete.sort(key=lambda t: -(t.value or 0.0))
    best = complete[0]
    ranked = [Contender(study.trial(e.trial), e.mean, e.sd) for e in rank(study)]
    ranked = [contender for contender in ranked if contender.trial.params not in without]
    if not ranked:
        ranked = [Contender(trial, None, None) for trial in complete]
    unique: list[Contender] = []
    for contender in ranked:  # a setting that was tried twice is retrained once
        if all(contender.trial.params != other.trial.params for other in unique):
            unique.append(contender)
    lucky = next(c for c in ranked if c.trial.number == best.number)
    chosen = unique[:n]
    if all(lucky.trial.params != c.trial.params for c in chosen):
        chosen.append(lucky)
    return chosen


def train_settings(header: Header) -> TrainConfig:
    """Return the settings that all trainings of a study share.

    Raises:
        ConfigError: If the study tuned another program, or settings that finish sets itself.
    """
    if header.command:
        raise ConfigError(
            f"the study tuned another program ({' '.join(header.command)}), but finish only "
            "retrains networks of nodule_det"
        )
    train = parse_overrides(header.train)
    taken = sorted({p.name for p in header.space} & set(OWN))
    if taken:
        raise ConfigError(
            f"the study tuned {', '.join(taken)}, which finish sets itself; use a study that does "
            "not tune it"
        )
    if varied := sorted({p.name for p in header.space} & set(SHARED)):
        raise ConfigError(
            f"the study tuned {', '.join(varied)}, so its trials are not comparable scan by scan; "
            "use a study of one store"
        )
    for name in OWN:
        train.pop(name, None)
    return with_params(TrainConfig(), train)


def finish_plan(
    config: FinishConfig,
    study: Study,
    contenders: Sequence[Contender],
    lesions: Mapping[int, int],
    out: Path,
) -> tuple[TrainingPlan, tuple[int, ...]]:
    """Plan the trainings of all contenders; also returns the folds that are evaluated.

    ``lesions`` is the number of lesions of each fold of the store.

    Raises:
        ConfigError: If the store has too few folds, lacks a requested one, or has no lesions to
            evaluate or to choose a checkpoint by, or if the networks find candidates themselves,
            so that those of several folds or seeds cannot become one model.
    """
    header = study.header
    train = train_settings(header)
    if train.model.factory and train.model.factory != config.factory:
        raise ConfigError(
            f"the study trains model.factory={train.model.factory}, which runs code outside "
            f"nodule_det; if you trust that code, add factory={train.model.factory}"
        )
    of_fold = fold_points(train.store, lesions, config.folds, config.selection)
    if train.model.factory and len(of_fold) * len(config.seeds) > 1:
        _refuse_detector(with_params(train, contenders[0].trial.params).model)
    points = {
        contender.training(seed, fold): {**contender.trial.params, **held_out, "seed": seed}
        for contender in contenders
        for seed in config.seeds
        for fold, held_out in of_fold.items()
    }
    parameters = {
        **header.space.as_dict()["parameters"],
        **fold_parameters(lesions, config.selection),
        "seed": {"kind": "int", "low": 0, "high": MAX_SEED},
    }
    outlook = Plan("hpo.finish", rate=rate_here(config, study, train))
    without = "exclude=[...] leaves trials of the study out"
    plan = training_plan(out, parameters, points, config, train, outlook, without=without)
    return plan, tuple(of_fold)


def _refuse_detector(model: ModelConfig) -> None:
    """Refuse a ``model.factory`` that returns a detector, whose candidates cannot be averaged.

    Calls the factory, which the user has named to this command.  Where it cannot be called on this
    machine, such as a login node without its package, a line says what is not known.
    """
    from nodule_det.model import build_model, finds_candidates  # torch

    try:
        network = build_model(model)
    except ConfigError as error:
        print(
            f"not known here is whether the network finds candidates itself ({error}).  If it "
            "does, its trainings need folds=[0] and one seed to become a model",
            file=sys.stderr,
        )
        return
    if finds_candidates(network):
        raise ConfigError(
            f"model.factory={model.factory} finds candidates itself, and those of several folds or "
            "seeds cannot be averaged to one model; set one of each, such as folds=[0] seeds=[0]"
        )


def rate_here(config: FinishConfig, study: Study, train: TrainConfig) -> Rate | None:
    """Return how fast the trainings of the study ran, if they ran where finish runs its own.

    None if the study ran on another kind of system, such as a cluster.
    """
    if study.sessions and study.sessions[-1].dispatcher != config.dispatcher.kind.value:
        return None
    return rate_of(train, study.trials)
