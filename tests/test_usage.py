"""``--help``, and error messages for wrong command lines."""

from __future__ import annotations

from nodule_det.config.fields import settings
from nodule_det.config.hpo import HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.usage import explain, help_text


def test_help_shows_every_setting_with_its_default():
    text = help_text("train", TrainConfig)
    for key, (_, doc) in settings(TrainConfig):
        assert f"  {key} (" in text
        assert doc, f"{key} has no docstring"
    assert "  optim.lr (0.001)" in text


def test_help_lists_sub_commands_and_groups():
    text = help_text("hpo", HpoConfig)
    assert "  hpo status " in text
    assert "\ndispatcher=abci3|" in text
    assert "|local|" in text


def test_the_cause_of_a_chain_of_errors_is_reported():
    error = RuntimeError("wrapped")
    error.__cause__ = ConfigError("seed=-1 must lie in [0, 2]")
    assert explain(error, TrainConfig) == "seed=-1 must lie in [0, 2]"
