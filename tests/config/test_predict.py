"""Settings that select the networks of predict."""

import pytest

from nodule_det.config.predict import PredictConfig
from nodule_det.errors import ConfigError


def test_one_or_several_checkpoints_or_a_model_folder_are_accepted():
    assert PredictConfig(input="x", checkpoint="a.pt").checkpoints == ("a.pt",)
    assert PredictConfig(input="x", checkpoint=["a.pt", "b.pt"]).checkpoints == ("a.pt", "b.pt")
    assert PredictConfig(input="x", model="m").checkpoints == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "a.pt"}, "input is not set"),
        ({"input": "x"}, "neither is set"),
        ({"input": "x", "checkpoint": "a.pt", "model": "m"}, "both are set"),
        ({"input": "x", "checkpoint": [1]}, "must be a path or a list of paths"),
        ({"input": "x", "checkpoint": ["a", "a"]}, "names a file twice"),
        ({"input": "x", "checkpoint": "a", "views": 2}, "views=2 must be one of 1, 8, 48"),
        ({"input": "x", "checkpoint": "a", "markups_max": -1}, "markups_max=-1 must lie in"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        PredictConfig(**settings)
