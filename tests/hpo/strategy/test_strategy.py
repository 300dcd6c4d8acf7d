"""One function for all strategies."""

import subprocess
import sys

import numpy as np
import pytest

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.strategy.random_search import propose_random, propose_sobol
from nodule_det.hpo.strategy.strategy import propose
from nodule_det.hpo.study.trial import Trial, TrialState

SPACE = parse_space({"parameters": {"x": {"kind": "float", "low": 0.0, "high": 1.0}}})
TRIALS = [
    Trial(number=i, params={"x": i / 10}, state=TrialState.COMPLETE, value=(i / 10) ** 2)
    for i in range(8)
]


def chosen(strategy, choose=propose):
    config = AcquisitionConfig(strategy=strategy)
    return choose(SPACE, TRIALS, config, np.random.default_rng(0))


def test_random_and_sobol_need_no_model():
    assert chosen(Strategy.random) == chosen(Strategy.random, propose_random)
    assert chosen(Strategy.sobol) == chosen(Strategy.sobol, propose_sobol)


def test_the_old_name_botorch_is_nei():
    assert chosen(Strategy.botorch) == chosen(Strategy.nei)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_of_the_settings_proposes(strategy):
    assert 0 <= chosen(strategy)["x"] <= 1


@pytest.mark.parametrize(
    ("work", "loaded"),
    [
        ("pass", False),
        ("t.chosen(t.Strategy.random); t.chosen(t.Strategy.sobol)", False),
        ("t.chosen(t.Strategy.nei)", True),
    ],
)
def test_torch_is_loaded_only_by_a_strategy_with_a_model(work, loaded):
    code = (
        f"import sys; import tests.hpo.strategy.test_strategy as t; {work}; "
        "sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert run.returncode == loaded, run.stderr
