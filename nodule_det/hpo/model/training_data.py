"""What a list of trials teaches, as arrays for the models.

    trials ──training_data()──▶ TrainingData: values, errors, outcomes, times, pending points

Who teaches what:

- complete: the value, with its standard error, and the time it took;
- stopped early: its best validation, carried on to the end by what the complete trials gained from
  that epoch on, those most that rose as it did.  How much they differ is added to its error; while
  fewer than three complete trials show a gain, it teaches nothing;
- running, with validations: the same, if wanted.  Of many workers' trainings half the time is over
  at any moment: what they have shown need not wait for their end;
- diverged: the worst value seen, for it lies on the slope of a learning rate that was too high,
  and a model that knows of the slope climbs it from the other side; or 0 (the poster's rule);
- out of memory: where trainings fail, which is no slope but an edge; or 0;
- any other failure, cancelled by a person: nothing; a crashed node has no opinion of a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import BoolArray, FloatArray
from nodule_det.config.hpo import Failures
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.learning_curve import extrapolate
from nodule_det.hpo.space.space import Params
from nodule_det.hpo.study.trial import OUTCOMES, Reason, Trial, TrialState


@dataclass(frozen=True)
class TrainingData:
    """Arrays over the trials; n gave a value, k an outcome, m are pending."""

    params: list[Params]
    """Points of the n values."""
    features: FloatArray
    """(n, d)."""
    values: FloatArray
    """(n,) objective, larger is better."""
    se: FloatArray
    """(n,) standard errors; the median of the others where a trial has none, 0 if none has."""
    log_seconds: FloatArray
    """(n,) logarithm of the node time of a whole training; NaN where it is not known."""
    outcomes: FloatArray
    """(k, d) the n points, then those that failed and have no value."""
    succeeded: BoolArray
    """(k,)."""
    pending: FloatArray
    """(m, d)."""
    sheared: tuple[int, ...]
    """Columns of rates; see :attr:`Features.sheared`."""


def training_data(
    features: Features, trials: Sequence[Trial], failures: Failures, running: bool = False
) -> TrainingData:
    """Sort the trials by what they teach.

    Args:
        features: The map of the space.
        trials: All trials of the study.
        failures: Whether failures by the parameters are modelled or take the value 0.
        running: Whether trials that run teach what their validations promise so far.  They stay
            among the pending ones.
    """
    failed = [t for t in trials if t.state is TrialState.FAILED and t.reason in OUTCOMES]
    found = [(t, seen) for t in trials if (seen := _value(t, trials, running)) is not None]
    worst = min((value for _, (value, _) in found), default=0.0)
    if failures is Failures.zero:
        found += [(t, (0.0, None)) for t in failed]
        failed = []
    elif found:
        found += [(t, (worst, None)) for t in failed if t.reason is Reason.DIVERGED]
        failed = [t for t in failed if t.reason is not Reason.DIVERGED]
    known = [t for t, _ in found]
    outcomes = known + failed
    return TrainingData(
        params=[t.params for t in known],
        features=features.matrix([t.params for t in known]),
        values=np.array([value for _, (value, _) in found], np.float64),
        se=_filled([se for _, (_, se) in found]),
        log_seconds=np.array([_log_seconds(t) for t in known], np.float64),
        outcomes=features.matrix([t.params for t in outcomes]),
        succeeded=np.arange(len(outcomes)) < len(known),
        pending=features.matrix([t.params for t in trials if t.pending]),
        sheared=features.sheared,
    )


def _value(
    trial: Trial, trials: Sequence[Trial], running: bool
) -> tuple[float, float | None] | None:
    """Return value and standard error; None for a trial that teaches none."""
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
