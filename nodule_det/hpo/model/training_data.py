"""How each trial informs the models, as arrays.

    trials ──training_data()──▶ TrainingData: values, errors, outcomes, pending points

- Complete: its value with its errors.
- Running, with validations, if requested: its best validation, extrapolated to the last epoch with
  the gains that completed trials made from the same epoch (``learning_curve``).  The spread of
  those gains is added to its standard error.  Ignored until three completed trials can be compared.
  With many workers, trainings are half done on average, and their validations are informative
  before they end.
- Early-stopped by an earlier version: the same.
- Diverged: the worst value of the others.  Its learning rate was too high, and a model that knows
  this slope can climb it.  Or 0, the poster's rule.
- Out of memory, predicted to exceed a limit, or complete but in violation of a constraint: informs
  only the feasibility, since this is an edge rather than a slope.  Or 0.
- Any other failure, or cancelled by the user: ignored.  A crashed node says nothing about a point.

Low outliers among the values are raised to Tukey's fence (``outcomes.winsorise``), and extrapolated
values are limited from above.

Trainings of one study are validated on the same cases, so most of their error is shared, and says
nothing about which of two is better.  Those that report the influence of each case have errors with
known covariances.  The value of an unfinished or a diverged training is assumed to share as much of
its error as the others do on average.  A complete one without influence keeps its whole error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Columns, Features
from nodule_det.hpo.model.learning_curve import Extrapolated, extrapolate
from nodule_det.hpo.model.outcomes import Standardised, standardise, winsorise
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import OUTCOMES, Reason, Trial, TrialState


@dataclass(frozen=True)
class TrainingData:
    """Arrays over the trials: n with a value, k with an outcome, m pending."""

    params: list[Params]
    """The n points that have a value."""
    features: FloatArray
    """(n, d)."""
    values: FloatArray
    """(n,) objective, larger is better."""
    se: FloatArray
    """(n,) standard errors that no other trial shares; the median of the others if a trial has
    none, 0 if none has one."""
    influence: FloatArray
    """(n, c) how much each of c validation cases pulls each value, in addition to ``se``."""
    outcomes: FloatArray
    """(k, d) the n points, then the failed ones without a value."""
    succeeded: BoolArray
    """(k,)."""
    pending: FloatArray
    """(m, d)."""
    columns: Columns
    """What the columns of the inputs are."""

    def standardised(self) -> Standardised:
        """Return the values and their noise as a model takes them; n must be at least 1."""
        return standardise(self.values, self.se, self.influence)


def training_data(
    features: Features, trials: Sequence[Trial], failures: Failures, running: bool = False
) -> TrainingData:
    """Sort the trials by how they inform the models.

    Args:
        features: The map of the space.
        trials: All trials of the study.
        failures: Whether failures caused by the parameters are modelled or get the value 0.
        running: Whether validations of running trials inform the model.  Such trials are still
            among the pending ones.
    """
    failed = [t for t in trials if t.reason in OUTCOMES]
    found = [(t, seen) for t in trials if (seen := _value(t, trials, running)) is not None]
    values = winsorise(_values([seen for _, seen in found]))
    if failures is Failures.zero:
        low, valued, failed = 0.0, failed, []
    else:
        low = float(values.min(initial=np.inf))
        valued = [t for t in failed if t.reason is Reason.DIVERGED and found]
        failed = [t for t in failed if t.reason is not Reason.DIVERGED or not found]
    values = np.append(values, np.full(len(valued), low))
    se, influence = _errors([seen for _, seen in found], len(valued))
    known = [t for t, _ in found] + valued
    outcomes = known + failed
    return TrainingData(
        params=[t.params for t in known],
        features=features.matrix([t.params for t in known]),
        values=values,
        se=se,
        influence=influence,
        outcomes=features.matrix([t.params for t in outcomes]),
        succeeded=np.arange(len(outcomes)) < len(known),
        pending=features.matrix([t.params for t in trials if t.pending]),
        columns=features.columns,
    )


@dataclass(frozen=True)
class _Complete:
    """The value of a completed training."""

    value: float
    se: float | None
    influence: Mapping[str, float]


def _value(trial: Trial, trials: Sequence[Trial], running: bool) -> _Complete | Extrapolated | None:
    """Return the value of a trial with its errors; None for a trial without one."""
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return _Complete(trial.value, trial.value_se, trial.influence or {})
    unfinished = trial.reason is Reason.EARLY_STOPPED or (running and trial.pending)
    if unfinished and trial.curve:
        return extrapolate(trial.curve, trials)
    return None


def _values(found: Sequence[_Complete | Extrapolated]) -> FloatArray:
    """Return the values, (n,), with those of unfinished trainings limited from above.

    A factor learned from curves that began near zero may predict any value.  None is taken to
    exceed the best complete one by more than that exceeds the median.
    """
    values = np.array([seen.value for seen in found], np.float64)
    measured = np.array([isinstance(seen, _Complete) for seen in found], np.bool_)
    if measured.all() or not measured.any():
        return values
    best, middle = values[measured].max(), np.median(values[measured])
    return np.where(measured, values, np.minimum(values, best + (best - middle)))


def _errors(
    found: Sequence[_Complete | Extrapolated], n_assigned: int
) -> tuple[FloatArray, FloatArray]:
    """Return the errors of values, then those of ``n_assigned`` values that were not measured.

    Returns:
        (n,) independent standard errors, and (n, c) influence of c cases.
    """
    ses = [seen.se for seen in found if seen.se is not None]
    usual = float(np.median(ses)) if ses else 0.0
    cases = sorted(
        {case for seen in found if isinstance(seen, _Complete) for case in seen.influence}
    )
    column = {case: i for i, case in enumerate(cases)}
    influence = np.zeros((len(found) + n_assigned, len(cases)))
    for row, seen in zip(influence, found, strict=False):
        if isinstance(seen, _Complete):
            row[[column[case] for case in seen.influence]] = list(seen.influence.values())
    usual_pull = _usual_pull(influence)
    alone = math.sqrt(max(0.0, 1 - float(usual_pull @ usual_pull)))
    se = np.full(len(influence), usual)
    for i, seen in enumerate(found):
        if not isinstance(seen, _Complete):
            se[i], influence[i] = math.hypot(alone * seen.se, seen.spread), seen.se * usual_pull
        elif seen.influence:
            se[i] = 0.0
        elif seen.se is not None:
            se[i] = seen.se
    influence[len(found) :] = usual * usual_pull
    se[len(found) :] = alone * usual
    return se, influence


def _usual_pull(influence: FloatArray) -> FloatArray:
    """Return the influence on a value of standard error 1, of a trial that did not report it.

    Its correlation with the reported errors is the mean correlation among those.

    Args:
        influence: (n, c); rows of zeros are ignored.

    Returns:
        (c,) influence, whose square is at most 1.
    """
    size = np.linalg.norm(influence, axis=1)
    n = int((size > 0).sum())
    if n < 2:
        return np.zeros(influence.shape[1])
    mean = (influence[size > 0] / size[size > 0, None]).mean(0)
    square = float(mean @ mean)  # mean over all pairs, of which n are a trial with itself
    correlation = (n * square - 1) / (n - 1)
    return np.asarray(mean * max(0.0, correlation) / square) if square > 0 else mean
