import numpy as np
import pytest

from nodule_det.hpo.model import acquisition
from nodule_det.hpo.model.encoding import Features
from nodule_det.hpo.model.feasibility import fit_feasibility
from nodule_det.hpo.model.gp import fit_surrogate
from nodule_det.hpo.model.outcomes import standardise
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy.scoring import Scorer

SPACE = parse_space(
    {
        "parameters": {
            "kind": {"kind": "categorical", "values": ["a", "b", "c"]},
            "rate": {
                "kind": "float",
                "low": 1.0e-5,
                "high": 0.1,
                "log": True,
                "prior": {"center": 0.01, "spread": 10},
            },
            "n": {"kind": "int", "low": 1, "high": 9},
            "share": {"kind": "float", "low": 0.0, "high": 1.0, "when": {"kind": ["b"]}},
            "flip": {"kind": "bool"},
        }
    }
)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_score_is_the_sum_of_improvement_success_and_prior(weight):
    rng = np.random.default_rng(0)
    features = Features(SPACE)
    x = features.of_units(rng.random((25, SPACE.dimension)))
    values = rng.normal(size=25)
    surrogate = fit_surrogate(x, standardise(values, np.full(25, 0.1)), columns=features.columns)
    improvement = acquisition.log_nei(surrogate, x[:2], 0)
    feasibility = fit_feasibility(x, np.arange(25) > 4)
    units = rng.random((6, SPACE.dimension))
    inputs = features.of_units(units)
    priors = np.array([SPACE.log_prior(SPACE.from_unit(u)) for u in units])
    assert priors.any()
    expected = improvement(inputs) + feasibility.log_chance(inputs) + weight * priors
    found = Scorer(features, improvement, feasibility, prior_weight=weight)(units)
    assert found == pytest.approx(expected)
