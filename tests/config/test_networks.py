"""Settings that select networks, which three commands share."""

import pytest

from nodule_det.config.export import ExportConfig
from nodule_det.config.networks import NetworkConfig, require_views
from nodule_det.config.predict import PredictConfig
from nodule_det.config.score import ScoreConfig
from nodule_det.errors import ConfigError


def test_one_or_several_checkpoints_or_a_model_folder_are_accepted():
    assert NetworkConfig(checkpoint="a.pt").checkpoints == ("a.pt",)
    assert NetworkConfig(checkpoint=["a.pt", "b.pt"]).checkpoints == ("a.pt", "b.pt")
    assert NetworkConfig(model="m").checkpoints == ()


@pytest.mark.parametrize("command", [PredictConfig, ScoreConfig, ExportConfig])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "selects the network, but neither is set; set one"),
        ({"checkpoint": []}, "neither is set"),
        ({"checkpoint": "a.pt", "model": "m"}, "both are set; set one"),
        ({"checkpoint": ["a.pt", 3]}, r"checkpoint=\['a.pt', 3\] must be a path or a list of"),
        ({"checkpoint": ["a.pt", "a.pt"]}, "names a file twice"),
    ],
)
def test_every_command_refuses_a_wrong_choice(command, settings, message):
    needed = {PredictConfig: {"input": "x"}, ExportConfig: {"out": "x"}}.get(command, {})
    with pytest.raises(ConfigError, match=message):
        command(**needed, **settings)


@pytest.mark.parametrize("views", [0, 2, -8, 49])
def test_views_are_a_group_of_symmetries(views):
    require_views(48)
    with pytest.raises(ConfigError, match=rf"views={views} must be one of 1, 8, 48"):
        require_views(views)
