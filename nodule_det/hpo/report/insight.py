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
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.model.training_data import training_data
from nodule_det.hpo.space.space import Parameter, Params, Space, Value
from nodule_det.hpo.study.study import Study
from nodule_det.hpo.study.trial import Trial

MODEL_FROM = 5
"""Values from which on a model is shown; before, it shows little but its own priors."""
SLICE_POINTS = 61
"""Places along a continuous parameter."""
BASE_POINTS = 512
"""Of the sums, a power of two; each costs a prediction for every parameter."""
DRAWS = 8
"""Models with other scales, as far as the results leave them open, that importance is also of."""
MANY = 300
"""Values from which on a fit takes long enough that two such models must do."""
FLAT = 1e-12
"""Variance over the space below which no parameter matters."""


@dataclass(frozen=True)
class Slice:
    """The model along one parameter, all others as in the best trial."""

    parameter: Parameter
    values: tuple[Value, ...]
    """k places; none where the parameter is absent from the best trial."""
    mean: FloatArray
    """(k,)"""
    sd: FloatArray
    """(k,) of the function, without the noise of a training."""


@dataclass(frozen=True)
class Importance:
    """Total-effect indices of one parameter, in the mean over models."""

    name: str
    total: float
    """Share of the variance over the space that is lost with this parameter, interactions too."""
    low: float
    high: float
    """Range over the models."""


@dataclass(frozen=True)
class Insight:
    """What is shown of the model."""

    best: Trial
    expected: float
    """What the model expects at the best point: it has seen all trials, not the lucky one alone."""
    expected_sd: float
    most_expected: Expected
    """The trial that the model expects most of, which may be another."""
    n_values: int
    slices: tuple[Slice, ...]
    importance: tuple[Importance, ...]
    """The weightiest first."""
    n_models: int


def learn(study: Study, seed: int = 0) -> Insight | None:
    """Fit the model to a study; None while fewer than ``MODEL_FROM`` trials teach a value."""
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
    values = standardise(data.values, data.se)
    draws = DRAWS if len(data.values) < MANY else 2
    surrogate = fit_surrogate(data.features, values, sheared=data.sheared)
    drawn = fit_surrogate(data.features, values, sheared=data.sheared, rng=rng, draws=draws)
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
    """Predict along one parameter, the others as in ``params``.

    What depends on it (a bound of W/2) keeps its share of what is allowed, and what it brings in
    takes the middle of its scale, so that every place is a point of the space.
    """
    space = features.space
    if p.name not in params:
        return Slice(p, (), np.empty(0), np.empty(0))
    column = [q.name for q in space.free].index(p.name)
    choices = p.choices(params)
    places = (
        np.linspace(0, 1, SLICE_POINTS)
        if choices is None
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

    Points fill the unit cube evenly, where parameters are independent of each other by how the
    space is laid out.

    Args:
        space: The search space.
        features: Its map to model inputs.
        models: Over which mean and range are taken.
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
