"""A small search space and three of its trials, for the pictures of a study."""

from dataclasses import replace

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.trial import Reason, Trial, TrialState

SPACE = parse_space(
    {
        "parameters": {
            "model.filters": {"kind": "int", "low": 4, "high": 32, "step": 2},
            "optim.lr": {"kind": "float", "low": 1e-8, "high": 1e-2, "log": True},
            "loss.lr": {"kind": "bool"},
        }
    }
)
PARAMS = {"model.filters": 16, "optim.lr": 1e-5, "loss.lr": True}
GOOD = Trial(number=1, params=PARAMS, state=TrialState.COMPLETE, value=0.5, value_se=0.05)
BETTER = replace(GOOD, number=2, value=0.6)
FAILED = Trial(number=3, params=PARAMS, state=TrialState.FAILED, reason=Reason.DIVERGED)
