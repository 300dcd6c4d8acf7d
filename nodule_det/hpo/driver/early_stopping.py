"""Early stopping: cancel trainings that will not come close to the best one.

    Trial.curve of all trials ──should_stop(trial, trials)──▶ cancel, or continue

A training is stopped if its final value, extrapolated with the curves of complete trainings
(``learning_curve``), is clearly below the best value so far: by ``sure`` standard errors of the
extrapolation.  So nothing is stopped before three trainings are complete, and the model uses the
same value and error that decided the stop.

Successive halving keeps the best third at certain epochs and so ends two of three trainings,
however good they are.  In a search that converges, those two may be among the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from nodule_det.config.hpo import StoppingConfig
from nodule_det.hpo.model.learning_curve import extrapolate
from nodule_det.hpo.study.trial import Trial, TrialState


def should_stop(trial: Trial, trials: Iterable[Trial], config: StoppingConfig) -> bool:
    """Return whether a running trial will not come close to the best one.

    Args:
        trial: The trial, with its validations so far.
        trials: All trials of the study, with or without this one.
        config: First epoch at which a trial may be stopped, and the required number of standard
            errors.
    """
    if not config.on or not trial.curve or trial.curve[-1].epoch < config.first_epoch:
        return False
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    end = extrapolate(trial.curve, complete)
    if end is None:
        return False
    error = math.hypot(end.se, end.spread)
    return end.value + config.sure * error < max(t.value or 0.0 for t in complete)
