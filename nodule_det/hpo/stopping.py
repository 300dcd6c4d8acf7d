"""Early stopping: end trainings that fall behind, by asynchronous successive halving.

    Trial.curve of all trials ──should_stop(trial, trials)──▶ cancel, or go on

Why this rule: it compares trainings at equal epochs only, decides at once without waiting for a
whole round (so no worker is ever idle), needs no model of a learning curve that would be wrong for
diverging runs, and it keeps going what it has no reason to stop.  It is the "stopping" form of
ASHA: a training that is not among the best 1/factor at a rung ends there.  A lag within its own
standard error is no reason.  And nothing ends before three trainings are complete: until then a
stopped one teaches nothing (see ``evidence``), and a search that stops on goes on blindly.

References:
    Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nodule_det.config.hpo import StoppingConfig
from nodule_det.hpo.trial import Observation, Trial, TrialState

ENOUGH_COMPLETE = 3
"""Complete trials from which others can be told how they would have gone on."""


def should_stop(trial: Trial, trials: Iterable[Trial], config: StoppingConfig) -> bool:
    """Say whether a running trial has fallen behind the others.

    Args:
        trial: The trial, with its validations so far.
        trials: All trials of the study, this one included or not.
        config: Epoch of the first rung, and the factor between rungs.

    Returns:
        True if three trials are complete, at the highest rung that it has reached at least
        ``factor`` were seen, and its best value up to there plus its standard error is below the
        best 1/factor of them.
    """
    if not config.on or not trial.curve:
        return False
    rung = highest_rung(trial.curve[-1].epoch, config)
    if rung is None:
        return False
    others = [t for t in trials if t.number != trial.number]
    if sum(t.state is TrialState.COMPLETE for t in others) < ENOUGH_COMPLETE:
        return False
    seen = [best for t in others if (best := best_until(t.curve, rung)) is not None]
    own = best_until(trial.curve, rung)
    if own is None or len(seen) + 1 < config.factor:
        return False
    values = sorted([own.value, *(o.value for o in seen)], reverse=True)
    threshold = values[len(values) // config.factor - 1]
    return own.value + (own.se or 0.0) < threshold


def highest_rung(epoch: int, config: StoppingConfig) -> int | None:
    """Give the last rung (first_epoch * factor^k) at or before an epoch.

    Example:
        >>> highest_rung(44, StoppingConfig(first_epoch=5, factor=3))
        15
    """
    if epoch < config.first_epoch:
        return None
    rung = config.first_epoch
    while rung * config.factor <= epoch:
        rung *= config.factor
    return rung


def best_until(curve: Sequence[Observation], rung: int) -> Observation | None:
    """Give the best validation up to a rung; None for a training that has not come that far."""
    if not curve or curve[-1].epoch < rung:
        return None
    reached = [o for o in curve if o.epoch <= rung]
    return max(reached, key=lambda o: o.value) if reached else None
