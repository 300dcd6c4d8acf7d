"""Early stopping: end trainings that will not come near the best one.

    Trial.curve of all trials ──should_stop(trial, trials)──▶ cancel, or go on

A training ends early where what it will come to, foretold by those that are complete
(``learning_curves``), lies clearly below the best value so far: by ``sure`` standard errors of what
is foretold.  So nothing ends before three trainings are complete, and what was stopped teaches the
surrogate the same value, with the same error, that it was stopped for.

Why not successive halving, which keeps the best third at each of some epochs: it ends two of three
trainings whatever they promise, and in a search that closes in, two of three are among the best.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodule_det.config.hpo import StoppingConfig
from nodule_det.hpo.model.learning_curve import extrapolate
from nodule_det.hpo.study.trial import Trial, TrialState


def should_stop(trial: Trial, trials: Iterable[Trial], config: StoppingConfig) -> bool:
    """Say whether a running trial will not come near the best one.

    Args:
        trial: The trial, with its validations so far.
        trials: All trials of the study, this one included or not.
        config: First epoch at which one may be stopped, and how sure it must be.
    """
    if not config.on or not trial.curve or trial.curve[-1].epoch < config.first_epoch:
        return False
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    end = extrapolate(trial.curve, complete)
    if end is None:
        return False
    value, error = end
    return value + config.sure * error < max(t.value or 0.0 for t in complete)
