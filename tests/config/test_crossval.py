"""Impossible settings of a cross-validation are refused."""

import pytest

from nodule_det.config.crossval import CrossvalConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out": ""}, "out is not set; add out=FOLDER"),
        ({"workers": 0}, "workers=0 must lie in"),
        ({"bootstrap": 1}, "bootstrap=1 must lie in"),
        ({"folds": [1, 2, 1]}, r"folds=\[1, 2, 1\] lists a fold twice"),
        ({"train": TrainConfig(fold=2)}, r"train\.fold=2 cannot be set"),
        ({"train": TrainConfig(test_fold=2)}, r"train\.test_fold=2 cannot be set"),
        ({"train": TrainConfig(test_fold=0)}, r"train\.test_fold=0 cannot be set"),
        ({"train": TrainConfig(run_dir="runs/x")}, r"train\.run_dir=runs/x cannot be set"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        CrossvalConfig(**{"out": "cv", **settings})
