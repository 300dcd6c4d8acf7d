"""Impossible settings of finish are refused."""

import pytest

from nodule_det.config.hpo_finish import FinishConfig
from nodule_det.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"study": ""}, "study"),
        ({"settings": 0}, "settings=0 must lie in"),
        ({"seeds": []}, "must list one or more different seeds"),
        ({"seeds": [1, 1]}, "must list one or more different seeds"),
        ({"seeds": [-1]}, "seeds=-1 must lie in"),
        ({"folds": [0, 0]}, "lists a fold twice"),
        ({"bootstrap": 1}, "bootstrap=1 must lie in"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FinishConfig(**{"study": "s", **settings})
