"""Tuning methods of other packages, and variants of ours, with the signature of our strategies.

    name ──peer()──▶ propose(space, trials, config, rng), settings

Peers, in addition to the strategies of ``nodule_det.hpo``: ``tpe`` and ``optuna_gp`` are Optuna's,
``plain_botorch`` is BoTorch as in its tutorials, and ``ax`` and ``smac`` need their own
environments (``hpo_ax_smac.py``).  All of these get 0 for a failed training.

Variants of ours: ``*-zero`` also uses 0 for a failure, ``*-map`` uses only the most probable
hyperparameters, ``*-final`` ignores the validations of running trainings, ``*-alone`` ignores
running trainings, ``*-blind`` ignores standard errors, ``*-unshared`` takes them for independent,
``*-squeezed`` sees all values within 0.01 of each other, ``*-straight`` has no shear, ``*-smooth``
has a single length scale, ``*-prior`` has a prior of the learning rate near 3e-4, which is right
for these functions, and ``*-wrong`` one near 1e-6.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from hpo_ax_smac import Ax, PackagePeer, Smac

from nodule_det.config.hpo import AcquisitionConfig, Failures, Strategy
from nodule_det.hpo.simulate.study import FIRST_POINTS
from nodule_det.hpo.space.space import Kind, Params, Prior, Space
from nodule_det.hpo.strategy.strategy import Propose, propose
from nodule_det.hpo.study.trial import Trial


class Optuna:
    """An Optuna study with one of its samplers."""

    def __init__(self, space: Space, sampler: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        d = optuna.distributions
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space = space
        self._kinds: dict[str, Any] = {}
        for p in space.free:
            if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
                self._kinds[p.name] = d.CategoricalDistribution(p.values)
            elif p.kind is Kind.FLOAT or p.at_most is not None:
                self._kinds[p.name] = d.FloatDistribution(0.0, 1.0)
            else:
                self._kinds[p.name] = d.IntDistribution(0, _count(p) - 1)

    def attach(self, params: Params) -> Any:
        units = zip(self._space.free, self._space.to_unit(params), strict=True)
        self._study.enqueue_trial({p.name: _to_optuna(p, float(u)) for p, u in units})
        return self._study.ask(self._kinds)

    def tell(self, tag: Any, value: float) -> None:
        self._study.tell(tag, value)

    def ask(self) -> tuple[Any, Params]:
        asked = self._study.ask(self._kinds)
        units = [_from_optuna(p, asked.params[p.name]) for p in self._space.free]
        return asked, self._space.from_unit(units)


def plain_botorch(
    space: Space, trials: Sequence[Trial], config: AcquisitionConfig, rng: np.random.Generator
) -> Params:
    """SingleTaskGP and qLogNEI with pending points on the unit cube, rounded afterwards."""
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    done = [t for t in trials if not t.pending]
    if len(done) < config.first:
        return space.sample(rng)
    warnings.simplefilter("ignore")

    def units(some: list[Trial]) -> Any:
        return torch.tensor(np.array([space.to_unit(t.params) for t in some]))

    torch.manual_seed(int(rng.integers(2**31)))
    x, y = units(done), torch.tensor([[t.value or 0.0] for t in done], dtype=torch.float64)
    pending = [t for t in trials if t.pending]
    model = SingleTaskGP(x, y)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    promise = qLogNoisyExpectedImprovement(model, x, X_pending=units(pending) if pending else None)
    cube = torch.stack([torch.zeros(space.dimension), torch.ones(space.dimension)]).double()
    found, _ = optimize_acqf(promise, cube, q=1, num_restarts=3, raw_samples=96)
    return space.from_unit(found[0].numpy())


def _count(p: Any) -> int:
    return len(p.choices({}))


def _to_optuna(p: Any, u: float) -> Any:
    if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
        return p.values[min(int(u * len(p.values)), len(p.values) - 1)]
    if p.kind is Kind.FLOAT or p.at_most is not None:
        return u
    return min(int(u * _count(p)), _count(p) - 1)


def _from_optuna(p: Any, value: Any) -> float:
    if p.kind in (Kind.BOOL, Kind.CATEGORICAL):
        return float((p.values.index(value) + 0.5) / len(p.values))
    if p.kind is Kind.FLOAT or p.at_most is not None:
        return float(value)
    return float((value + 0.5) / _count(p))


def peer(name: str, seed: int) -> tuple[Propose, AcquisitionConfig]:
    """Return strategy and settings of a peer."""
    base, *variants = name.split("-")
    if base in ("tpe", "optuna_gp"):
        import optuna

        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = (
            optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
            if base == "tpe"
            else optuna.samplers.GPSampler(seed=seed)
        )
        return PackagePeer(partial(Optuna, sampler=sampler)), AcquisitionConfig()
    if base in ("ax", "smac"):
        package = Ax if base == "ax" else Smac
        start = partial(package, seed=seed)
        return PackagePeer(start), AcquisitionConfig()
    if base == "plain_botorch":
        return plain_botorch, AcquisitionConfig(first=FIRST_POINTS)
    strategy = Strategy(base)
    chosen: Propose = propose
    settings: dict[str, Any] = {"strategy": strategy, "first": FIRST_POINTS}
    for variant in variants:
        if variant == "zero":
            settings["failures"] = Failures.zero
        elif variant == "map":
            settings["draw_scales"] = False
        elif variant == "final":
            settings["running_curves"] = False
        elif variant.startswith("first"):
            settings["first"] = int(variant[5:])
        elif variant in VIEWS:
            chosen = seen_through(VIEWS[variant], chosen)
        elif variant in WITHOUT:
            chosen = without(variant, chosen)
        else:
            raise SystemExit(f"{name}: {variant} is not a variant")
    return chosen, AcquisitionConfig(**settings)


WITHOUT: dict[str, tuple[str, Any]] = {
    "straight": ("nodule_det.hpo.model.encoding.Features.sheared", ()),
    "smooth": ("nodule_det.hpo.model.gp.ROUGH_SHARE", 0.0),
}
"""Parts of the model that can be left out: what is replaced, and by what."""


def without(part: str, choose: Propose) -> Propose:
    """Return a strategy that lacks a part of the model."""

    def choose_so(*args: Any) -> Params:
        with patch(*WITHOUT[part]):
            return choose(*args)

    return choose_so


View = Callable[[Space, Sequence[Trial]], tuple[Space, Sequence[Trial]]]


def seen_through(view: View, propose: Propose) -> Propose:
    """Show a strategy another space, or other trials, than the real ones."""

    def propose_so(space: Space, trials: Sequence[Trial], *others: Any) -> Params:
        return propose(*view(space, trials), *others)

    return propose_so


def _alone(space: Space, trials: Sequence[Trial]) -> tuple[Space, Sequence[Trial]]:
    return space, [t for t in trials if not t.pending]


def _blind(space: Space, trials: Sequence[Trial]) -> tuple[Space, Sequence[Trial]]:
    return space, [replace(t, value_se=None, influence=None) for t in trials]


def _unshared(space: Space, trials: Sequence[Trial]) -> tuple[Space, Sequence[Trial]]:
    return space, [replace(t, influence=None) for t in trials]


def _squeezed(space: Space, trials: Sequence[Trial]) -> tuple[Space, Sequence[Trial]]:
    """Show all values between 0.90 and 0.91, as in a narrow space around a good default."""

    def value(v: float | None) -> float | None:
        return None if v is None else 0.9 + 0.01 * v

    def se(v: float | None) -> float | None:
        return None if v is None else 0.01 * v

    return space, [
        replace(
            t,
            value=value(t.value),
            value_se=se(t.value_se),
            influence=t.influence and {case: 0.01 * pull for case, pull in t.influence.items()},
            curve=tuple(replace(o, value=0.9 + 0.01 * o.value, se=se(o.se)) for o in t.curve),
        )
        for t in trials
    ]


def _believing(center: float) -> View:
    """Believe in learning rates around ``center``, a decade to both sides."""
    prior = Prior(center=center, spread=10.0)

    def view(space: Space, trials: Sequence[Trial]) -> tuple[Space, Sequence[Trial]]:
        parameters = tuple(
            replace(p, prior=prior) if p.name == "optim.lr" else p for p in space.parameters
        )
        return replace(space, parameters=parameters), trials

    return view


VIEWS = {
    "alone": _alone,
    "blind": _blind,
    "unshared": _unshared,
    "squeezed": _squeezed,
    "prior": _believing(3e-4),
    "wrong": _believing(1e-6),
}
