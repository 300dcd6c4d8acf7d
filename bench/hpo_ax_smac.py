"""Ax and SMAC with the signature of our strategies, each used as its manual recommends.

    Space ──start──▶ a study of the package
    trials ──attach, tell──▶ it ──ask──▶ params

Neither is a dependency of the project; each needs its own environment, made like the project's and
then

    pip install ax-platform==1.3.1
    pip install smac==2.4.1

Points they did not propose are attached, including running ones.  As with the other peers, a failed
training is reported as 0, and standard errors are not reported.  A study of 100 jobs takes about
350 s of CPU time with Ax and 26 s with SMAC, which is reproducible only with ``PYTHONHASHSEED=0``.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from nodule_det.config.hpo import AcquisitionConfig
from nodule_det.hpo.space.space import INACTIVE, Kind, Parameter, Params, Space, Value
from nodule_det.hpo.study.trial import Trial

JOBS = 100
"""Length of the studies; SMAC takes the first quarter from a Sobol sequence."""

Values = Mapping[str, Any]
"""The values of a trial; one with a dependent bound is replaced by its share of that bound."""


class Study(Protocol):
    """The study of a package, which identifies each of its trials by a tag."""

    def attach(self, params: Params) -> Any:
        """Add a running point, and return its tag."""

    def tell(self, tag: Any, value: float) -> None:
        """Report an outcome; larger is better."""

    def ask(self) -> tuple[Any, Params]:
        """Return the next point and its tag; from now on it counts as running."""


class PackagePeer:
    """Keeps the study of a package in step with the trials."""

    def __init__(self, start: Callable[[Space], Study]) -> None:
        self._start = start
        self._study: Study | None = None
        self._tags: dict[int, Any] = {}
        self._told: set[int] = set()

    def __call__(
        self,
        space: Space,
        trials: Sequence[Trial],
        config: AcquisitionConfig,
        rng: np.random.Generator,
    ) -> Params:
        study = self._study = self._study or self._start(space)
        for trial in trials:
            if trial.number not in self._tags:
                self._tags[trial.number] = study.attach(trial.params)
            if not trial.pending and trial.number not in self._told:
                self._told.add(trial.number)
                study.tell(self._tags[trial.number], trial.value or 0.0)
        self._tags[len(trials) + 1], params = study.ask()
        return params


def to_values(space: Space, params: Mapping[str, Value]) -> dict[str, Value]:
    """Map params to the values of a package; absent ones stay absent."""
    return {
        p.name: p.to_unit(params[p.name], params) if p.at_most else params[p.name]
        for p in space.free
        if p.name in params
    }


def from_values(space: Space, values: Values) -> Params:
    """Map a package's values to params; those without a meaning at this point are left out."""
    return space.from_unit([_coordinate(p, values.get(p.name)) for p in space.free])


def _coordinate(p: Parameter, value: Any) -> float:
    if value is None:
        return INACTIVE
    return float(value) if p.at_most else p.to_unit(value, {})


class Ax:
    """Ax's ``Client`` with its default method: Sobol's points, then a GP and qLogNEI.

    With many workers all first points may be running when the next is asked for, where Ax raises
    ``DataRequiredError``; it is allowed to give more of Sobol's points instead.  Conditional
    parameters are always there for it.
    """

    def __init__(self, space: Space, seed: int) -> None:
        from ax.api.client import Client

        warnings.simplefilter("ignore")
        for name in [n for n in logging.root.manager.loggerDict if n.partition(".")[0] == "ax"]:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._client = Client(random_seed=seed)
        self._client.configure_experiment([_for_ax(p) for p in space.free])
        self._client.configure_optimization("pauc")
        self._client.configure_generation_strategy(
            initialization_random_seed=seed, allow_exceeding_initialization_budget=True
        )
        self._space = space
        self._absent = {p.name: _middle(p) for p in space.free}

    def attach(self, params: Params) -> int:
        values = to_values(self._space, params)
        return int(self._client.attach_trial({**self._absent, **values}))

    def tell(self, tag: int, value: float) -> None:
        self._client.complete_trial(tag, {"pauc": value})

    def ask(self) -> tuple[int, Params]:
        ((tag, values),) = self._client.get_next_trials(max_trials=1).items()
        return tag, from_values(self._space, values)


def _for_ax(p: Parameter) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if p.at_most:
        return RangeParameterConfig(p.name, (0.0, 1.0), "float")
    if p.kind is Kind.FLOAT:
        return RangeParameterConfig(
            p.name, (p.low, p.high), "float", scaling="log" if p.log else None
        )
    if p.kind is Kind.INT and p.step == 1:
        return RangeParameterConfig(
            p.name, (int(p.low), int(p.high)), "int", scaling="log" if p.log else None
        )
    values = list(p.choices({}) or ())
    kind = type(values[0]).__name__
    return ChoiceParameterConfig(
        p.name, values, kind, is_ordered=p.kind in (Kind.INT, Kind.ORDINAL)
    )


def _middle(p: Parameter) -> Value:
    return INACTIVE if p.at_most else p.from_unit(INACTIVE, {})


class Smac:
    """SMAC's ``HyperparameterOptimizationFacade``: 25 Sobol points, then a forest and EI.

    It knows the conditions.  Running points are kept from being asked twice, but its model does
    not see them; by default it is fitted anew after every 8 points.
    """

    def __init__(self, space: Space, seed: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        warnings.simplefilter("ignore")
        self._space = space
        self._configurations = _for_smac(space, seed)
        self._folder = tempfile.TemporaryDirectory(prefix="smac")
        scenario = Scenario(
            self._configurations,
            deterministic=True,
            n_trials=JOBS,
            seed=seed,
            output_directory=self._folder.name,
        )
        self._facade = HyperparameterOptimizationFacade(
            scenario, overwrite=True, logging_level=logging.ERROR
        )

    def attach(self, params: Params) -> Any:
        from ConfigSpace import Configuration
        from smac.runhistory.dataclasses import TrialInfo

        values = to_values(self._space, params)
        info = TrialInfo(Configuration(self._configurations, values=values), seed=0)
        self._facade.runhistory.add_running_trial(info)
        return info

    def tell(self, tag: Any, value: float) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self._facade.tell(tag, TrialValue(cost=1.0 - value), save=False)

    def ask(self) -> tuple[Any, Params]:
        info = self._facade.ask()
        return info, from_values(self._space, dict(info.config))


def _for_smac(space: Space, seed: int) -> Any:
    from ConfigSpace import AndConjunction, ConfigurationSpace, InCondition

    configurations = ConfigurationSpace(seed=seed)
    for p in space.free:
        configurations.add(_hyperparameter(p))
    for p in space.free:
        conditions = [
            InCondition(configurations[p.name], configurations[parent], list(values))
            for parent, values in p.when
        ]
        if conditions:
            configurations.add(
                conditions[0] if len(conditions) == 1 else AndConjunction(*conditions)
            )
    return configurations


def _hyperparameter(p: Parameter) -> Any:
    from ConfigSpace import Categorical, Float, Integer

    if p.at_most:
        return Float(p.name, (0.0, 1.0))
    if p.kind is Kind.FLOAT:
        return Float(p.name, (p.low, p.high), log=p.log)
    if p.kind is Kind.INT and p.step == 1:
        return Integer(p.name, (int(p.low), int(p.high)), log=p.log)
    ordered = p.kind in (Kind.INT, Kind.ORDINAL)
    return Categorical(p.name, list(p.choices({}) or ()), ordered=ordered)
