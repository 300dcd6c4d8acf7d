"""How each trial informs the models, as arrays.

    trials ──training_data()──▶ TrainingData: values, errors, outcomes, times, pending points

- Complete: its value with standard error, and its run time.
- Early-stopped: its best validation, extrapolated to the last epoch with the gains that completed
  trials made from the same epoch (``learning_curve``).  The spread of those gains is added to its
  standard error.  Ignored until three completed trials can be compared.
- Running, with validations: the same, if requested.  With many workers, trainings are half done on
  average, and their validations are informative before they end.
- Diverged: the worst value of the others.  Its learning rate was too high, and a model that knows
  this slope can climb it.  Or 0, the poster's rule.
- Out of memory, or predicted to exceed a limit: informs only the feasibility, since this is an edge
  rather than a slope.  Or 0.
- Any other failure, or cancelled by the user: ignored.  A crashed node says nothing about a point.

Low outliers among the values are raised to Tukey's fence (``outcomes.winsorise``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.learning_curve import extrapolate
from nodule_det.hpo.model.outcomes import winsorise
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
    """(n,) standard errors; the median of the others if a trial has none, 0 if none has one."""
    log_seconds: FloatArray
    """(n,) logarithm of the run time of a whole training; NaN if unknown."""
    outcomes: FloatArray
    """(k, d) the n points, then the failed ones without a value."""
    succeeded: BoolArray
    """(k,)."""
    pending: FloatArray
    """(m, d)."""
    sheared: tuple[int, ...]
    """Columns of rates; see :attr:`Features.sheared`."""


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
    failed = [t for t in trials if t.state is TrialState.FAILED and t.reason in OUTCOMES]
    found = [(t, seen) for t in trials if (seen := _value(t, trials, running)) is not None]
    values = winsorise(np.array([value for _, (value, _) in found], np.float64))
    if failures is Failures.zero:
        low, valued, failed = 0.0, failed, []
    else:
        low = float(values.min(initial=np.inf))
        valued = [t for t in failed if t.reason is Reason.DIVERGED and found]
        failed = [t for t in failed if t.reason is not Reason.DIVERGED or not found]
    values = np.append(values, np.full(len(valued), low))
    errors = [se for _, (_, se) in found] + [None] * len(valued)
    known = [t for t, _ in found] + valued
    outcomes = known + failed
    return TrainingData(
        params=[t.params for t in known],
        features=features.matrix([t.params for t in known]),
        values=values,
        se=_filled(errors),
        log_seconds=np.array([_log_seconds(t) for t in known], np.float64),
        outcomes=features.matrix([t.params for t in outcomes]),
        succeeded=np.arange(len(outcomes)) < len(known),
        pending=features.matrix([t.params for t in trials if t.pending]),
        sheared=features.sheared,
    )


def _value(
    trial: Trial, trials: Sequence[Trial], running: bool
) -> tuple[float, float | None] | None:
    """Return value and standard error; None for a trial without one."""
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return trial.value, trial.value_se
    unfinished = trial.reason is Reason.EARLY_STOPPED or (running and trial.pending)
    if unfinished and trial.curve:
        return extrapolate(trial.curve, trials)
    return None


def _filled(errors: Sequence[float | None]) -> FloatArray:
    known = [se for se in errors if se is not None]
    usual = float(np.median(known)) if known else 0.0
    return np.array([usual if se is None else se for se in errors], np.float64)


def _log_seconds(trial: Trial) -> float:
    whole = trial.state is TrialState.COMPLETE and trial.seconds > 0
    return float(np.log(trial.seconds)) if whole else float("nan")
