"""The final value of an unfinished training, extrapolated from the completed ones.

    validations so far, all trials ──extrapolate()──▶ final value, with its standard errors

Trainings of one task have similar curves at different levels, so the gain from an epoch to the end
is modelled as a factor.  A curve that is still rising keeps rising: the logarithm of the gain is a
linear function of the rise, the fraction of the best validation that was gained in the second half
of the epochs so far.  No parametric form of the curve is assumed.

Scores below zero are those of losses, which are minimised: the factor is that by which the loss
falls, and the rise is the fraction of the loss that was removed.  So a loss 1 / v is extrapolated
as v is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.hpo.study.trial import Observation, Trial, TrialState

MIN_COMPLETE = 3
"""Number of completed trials needed for an extrapolation."""

SLOPELESS = 2.0
"""Number of imaginary trials without a relation between rise and gain, which shrink the slope."""
LARGEST_LOG_GAIN = 100.0
"""Limit of a predicted gain, so that the square of the value is finite."""


@dataclass(frozen=True)
class Extrapolated:
    """The predicted final value of an unfinished training."""

    value: float
    se: float
    """Its standard error from the validation cases, which other trainings share."""
    spread: float
    """Its standard error from the rest of the curve."""


def extrapolate(curve: Sequence[Observation], trials: Sequence[Trial]) -> Extrapolated | None:
    """Predict the final value of an unfinished training.

    Only completed trials that were validated at the last epoch of ``curve`` inform the
    prediction.  If ``validation.every_epochs`` or ``limits.epochs`` is tuned, the others cannot be
    compared.

    Args:
        curve: Validations of the training, in order of epoch.
        trials: All trials; the completed ones provide the gains.

    Returns:
        None if fewer than :data:`MIN_COMPLETE` trials can be compared, or if the curve is empty.
    """
    if not curve or (best := best_until(curve, curve[-1].epoch)) is None:
        return None
    epoch, sign = curve[-1].epoch, -1 if best.value < 0 else 1
    gains, rises = [], []
    for trial in trials:
        other = _best_at(trial, epoch, sign)
        if other is not None and trial.value is not None:
            gains.append(sign * (math.log(abs(trial.value)) - math.log(abs(other.value))))
            rises.append(_rise(trial.curve, epoch, other.value))
    if len(gains) < MIN_COMPLETE:
        return None
    rise = _rise(curve, epoch, best.value)
    log_gain, spread = _line(np.array(gains), np.array(rises), rise)
    factor = math.exp(sign * min(max(0.0, log_gain), LARGEST_LOG_GAIN))
    value = best.value * factor
    return Extrapolated(value, factor * (best.se or 0.0), abs(value) * spread)


def _best_at(trial: Trial, epoch: int, sign: int) -> Observation | None:
    """Return the best validation up to an epoch; None for a trial that cannot be compared.

    Such a trial is not complete, was not validated at exactly that epoch, or has values of the
    other sign or 0, to which no factor leads.
    """
    if trial.state is not TrialState.COMPLETE or trial.value is None or sign * trial.value <= 0:
        return None
    if all(o.epoch != epoch for o in trial.curve):
        return None
    best = best_until(trial.curve, epoch)
    return best if best is not None and sign * best.value > 0 else None


def _rise(curve: Sequence[Observation], epoch: int, best: float) -> float:
    """Return the fraction of the best value that was gained in the second half of the epochs.

    Of a loss, whose score is negative: the fraction that was removed.
    """
    half = best_until(curve, epoch // 2)
    if half is None or best == 0:
        return 0.0
    return 1 - (half.value / best if best > 0 else best / half.value)


def _line(gains: FloatArray, rises: FloatArray, rise: float) -> tuple[float, float]:
    """Predict a log gain from a rise, with the spread of the gains around the line.

    The slope is the least-squares slope, shrunk as if :data:`SLOPELESS` more trials had none.
    Offset and spread are the median and half the distance between the 16th and 84th percentiles,
    so that an outlier has little effect.
    """
    n = len(gains)
    off = rises - rises.mean()
    square = float(off @ off) * (1 + SLOPELESS / n)
    slope = max(0.0, float(off @ gains) / square) if square > 0 else 0.0
    rest = gains - slope * off
    offset = float(np.median(rest))
    spread = 0.5 * float(np.subtract(*np.percentile(rest, [84, 16])))
    return offset + slope * (rise - float(rises.mean())), spread * math.sqrt(n / (n - 2))


def best_until(curve: Sequence[Observation], epoch: int) -> Observation | None:
    """Return the best validation up to an epoch, or None if there is none.

    Also None if the training has not reached that epoch.
    """
    if not curve or curve[-1].epoch < epoch:
        return None
    reached = [o for o in curve if o.epoch <= epoch]
    return max(reached, key=lambda o: o.value) if reached else None
