"""What an unfinished training will come to, told by those that are complete.

    validations so far, all trials ──extrapolate()──▶ value at the end, with its error

Trainings of one task rise alike, on different levels: so the gain from an epoch to the end is a
factor.  What still rises goes on to rise: so its logarithm is a line over the share of the best
validation that was won in the second half of the way.  No form of a curve is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nodule_det.arrays import FloatArray
from nodule_det.hpo.study.trial import Observation, Trial, TrialState

ENOUGH_COMPLETE = 3
"""Complete trials from which others can be told how they will go on."""

SLOPELESS = 2.0
"""Trials beside the real ones that show no relation of rise and gain."""
TINY = 1e-9


def extrapolate(
    curve: Sequence[Observation], trials: Sequence[Trial]
) -> tuple[float, float] | None:
    """Say what an unfinished training will come to, by how those that are complete went on.

    Args:
        curve: Its validations, by rising epoch, at least one.
        trials: Those that are complete show the gains.

    Returns:
        Value and standard error, or None while too few trials were complete.
    """
    epoch = curve[-1].epoch
    seen, rise = _rise(curve, epoch)
    others = [
        (math.log(t.value / best.value), late)
        for t in trials
        if t.state is TrialState.COMPLETE and t.value is not None and t.value > 0
        if t.curve and t.curve[-1].epoch >= epoch
        for best, late in [_rise(t.curve, epoch)]
        if best.value > 0
    ]
    if len(others) < ENOUGH_COMPLETE:
        return None
    gains, rises = np.transpose(others)
    log_gain, spread = _line(gains, rises, rise)
    gain = math.exp(max(0.0, log_gain))
    return seen.value * gain, gain * float(np.hypot(seen.se or 0.0, seen.value * spread))


def _rise(curve: Sequence[Observation], epoch: int) -> tuple[Observation, float]:
    """Return the best validation up to an epoch, and the share of it gained since halfway."""
    best, half = best_until(curve, epoch), best_until(curve, epoch // 2)
    assert best is not None
    late = 1 - half.value / best.value if half is not None and best.value > 0 else 0.0
    return best, late


def _line(gains: FloatArray, rises: FloatArray, rise: float) -> tuple[float, float]:
    """Foretell a gain from a rise, and how far the gains lie from the line that foretells them.

    The slope is that of least squares, drawn to 0 as by two trials more that show none; offset and
    spread are a median and half of what lies between 16 % and 84 %: one odd training does little.
    """
    n = len(gains)
    off = rises - rises.mean()
    slope = max(0.0, float(off @ gains) / (float(off @ off) * (1 + SLOPELESS / n) + TINY))
    rest = gains - slope * off
    offset = float(np.median(rest))
    spread = 0.5 * float(np.subtract(*np.percentile(rest, [84, 16])))
    return offset + slope * (rise - float(rises.mean())), spread * math.sqrt(n / (n - 2))


def best_until(curve: Sequence[Observation], epoch: int) -> Observation | None:
    """Return the best validation up to an epoch; None for a training that has not come that far."""
    if not curve or curve[-1].epoch < epoch:
        return None
    reached = [o for o in curve if o.epoch <= epoch]
    return max(reached, key=lambda o: o.value) if reached else None
