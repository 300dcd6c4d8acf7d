"""Settings of the command that scores a model."""

import pytest

from nodule_det.config.score import ScoreConfig, SessionConfig
from nodule_det.errors import ConfigError


def test_one_model_or_a_list_of_checkpoints_is_accepted():
    assert ScoreConfig(model="m").checkpoints == ()
    assert ScoreConfig(checkpoint=["a", "b"]).checkpoints == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "neither is set; set one"),
        ({"model": "m", "checkpoint": "a"}, "both are set; set one"),
        ({"checkpoint": ["a", "a"]}, "names a file twice"),
        ({"model": "m", "views": 2}, "views=2 must be one of 1, 8, 48"),
        ({"model": "m", "fold": -1}, r"fold=-1 must lie in \[0, 10000\]"),
        ({"model": "m", "run_dir": ""}, "run_dir is not set"),
    ],
)
def test_other_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ScoreConfig(**settings)


def test_a_negative_limit_is_refused():
    with pytest.raises(ConfigError, match=r"limits\.wall_s=-1 must lie in"):
        SessionConfig(wall_s=-1)
