"""What the surrogate makes of a study: slices through its best point, and which parameters matter.

    Study ──learn()──▶ Insight: slices, importance, what the best point is expected to be worth

The model is the one that chooses points (``model/gp.py``), with its most probable hyperparameters;
it reads failed trainings as the last driver did.  torch is loaded only to fit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from nodule_det.arrays import FloatArray
from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.expected import Expected, Model, most_expected
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.space import Kind, Parameter, Params, Space, Value
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Trial

MODEL_FROM = 5
"""Fewest values for which the model is shown; with fewer it shows little but its priors."""
SLICE_POINTS = 61
"""Points along a continuous parameter."""
BASE_POINTS = 512
"""Points of the sums, a power of two; each costs a prediction for every parameter."""
DRAWS = 8
"""Additional models, with length scales drawn from their posterior, to show the uncertainty of the
importance."""
MANY = 300
"""From this many values on, only two additional models are drawn, because fits are slow."""
FLAT = 1e-12
"""Variance over the space below which no parameter matters."""


@dataclass(frozen=True)
class Slice:
    """The model along one parameter, all others as in the best trial."""

    parameter: Parameter
    values: tuple[Value, ...]
    """k values; empty if the best trial lacks the parameter."""
    mean: FloatArray
    """(k,)"""
    sd: FloatArray
    """(k,) standard deviation of the function, without the noise of a training."""


@dataclass(frozen=True)
class Importance:
    """Total-effect index of one parameter: mean and range over models."""

    name: str
    total: float
    """Share of the variance over the space due to this parameter, including interactions."""
    low: float
    high: float
    """Range over the models."""


@dataclass(frozen=True)
class Insight:
    """What the report shows of the model."""

    best: Trial
    expected: float
    """The model's mean at the best point, informed by all trials, not only by one lucky value."""
    expected_sd: float
    most_expected: Expected
    """The trial with the highest expected value, which may be another one."""
    n_values: int
    slices: tuple[Slice, ...]
    importance: tuple[Importance, ...]
    """Most important first."""
    n_models: int


def learn(study: Study, seed: int = 0) -> Insight | None:
    """Fit the model to a study; None while fewer than ``MODEL_FROM`` trials have a value."""
    best = study.best()
    space = study.space
    if best is None or space.dimension == 0:
        return None
    features = Features(space)
    failures = study.sessions[-1].failures if study.sessions else Failures.model
    data = training_data(features, study.trials, failures)
    if len(data.values) < MODEL_FROM:
        return None
    from nodule_det.hpo.model.gp import fit_surrogate  # torch

    rng = np.random.default_rng(seed)
    values = data.standardised()
    draws = DRAWS if len(data.values) < MANY else 2
    surrogate = fit_surrogate(data.features, values, columns=data.columns)
    drawn = fit_surrogate(data.features, values, columns=data.columns, rng=rng, draws=draws)
    models = [surrogate, *drawn.members()]
    mean, sd = surrogate.predict(features.matrix([best.params]))
    return Insight(
        best=best,
        expected=float(mean[0]),
        expected_sd=float(sd[0]),
        most_expected=most_expected(
            surrogate, features, [t for t in study.trials if t.value is not None]
        ),
        n_values=len(data.values),
        slices=tuple(cut(p, best.params, features, surrogate) for p in space.free),
        importance=weigh(space, features, models, rng),
        n_models=len(models),
    )


def cut(p: Parameter, params: Params, features: Features, surrogate: Model) -> Slice:
    """Predict along one parameter, with all others as in ``params``.

    Parameters bounded by it (by W/2, say) keep their relative position in the allowed range, and
    parameters that it activates take the middle of their scale, so every point is valid.
    """
    space = features.space
    if p.name not in params:
        return Slice(p, (), np.empty(0), np.empty(0))
    column = [q.name for q in space.free].index(p.name)
    choices = p.choices(params)
    places = (
        np.linspace(0, 1, SLICE_POINTS)
        if choices is None or (p.kind is Kind.INT and len(choices) > SLICE_POINTS)
        else np.array([p.to_unit(v, params) for v in choices])
    )
    units = np.repeat(space.to_unit(params)[None], len(places), axis=0)
    units[:, column] = places
    points = [space.from_unit(u) for u in units]
    mean, sd = surrogate.predict(features.matrix(points))
    return Slice(p, tuple(point[p.name] for point in points), mean, sd)


def weigh(
    space: Space, features: Features, models: Sequence[Model], rng: np.random.Generator
) -> tuple[Importance, ...]:
    """Return each parameter's total-effect Sobol' index of the posterior mean over the whole space.

    Points fill the unit cube evenly; in its coordinates all parameters are independent.

    Args:
        space: The search space.
        features: Its map to model inputs.
        models: The models over which mean and range are taken.
        rng: Source of the points.

    References:
        Jansen (1999), Analysis of variance designs for model output, for the estimator; Saltelli
        et al. (2010), Variance based sensitivity analysis of model output, for the design.
    """
    d = space.dimension
    a, b = np.split(qmc.Sobol(2 * d, rng=rng).random(BASE_POINTS), 2, axis=1)
    mixed = np.repeat(a[None], d, axis=0)
    for i in range(d):
        mixed[i, :, i] = b[:, i]
    units = np.concatenate([a, b, *mixed])
    inputs = features.matrix([space.from_unit(u) for u in units])
    totals = np.array([_total_effects(model.predict(inputs)[0], d) for model in models])
    found = [
        Importance(p.name, float(t.mean()), float(t.min()), float(t.max()))
        for p, t in zip(space.free, totals.T, strict=True)
    ]
    return tuple(sorted(found, key=lambda i: -i.total))


def _total_effects(outputs: FloatArray, d: int) -> FloatArray:
    """Return the (d,) indices from outputs at a, b and the d mixtures of them, stacked."""
    a, b, *mixed = outputs.reshape(d + 2, -1)
    variance = float(np.var(np.concatenate([a, b])))
    if variance < FLAT:
        return np.zeros(d)
    return np.array([0.5 * np.mean((a - m) ** 2) / variance for m in mixed])
