"""``--help``, and error messages for wrong command lines."""

from __future__ import annotations

import pytest

from nodule_det.config.fields import settings
from nodule_det.config.hpo import HpoConfig
from nodule_det.config.predict import PredictConfig
from nodule_det.config.train import TrainConfig
from nodule_det.errors import ConfigError
from nodule_det.usage import as_text, explain, help_text, parse_overrides


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


@pytest.mark.parametrize(
    "path",
    [
        "a=b,c [1]", "it's", 'say "x"', "{x}:$y", "back\\", "b\\'x", "M\udcfcller", "001", "1.50",
        "true", "[CT]", "Müller Jürgen", "肺 CT", "  x ", "new\nline", "a/b", "~/a", "a\\ b",
    ],
)  # fmt: skip
def test_hydra_reads_a_path_as_it_was_typed(path):
    (word,) = as_text([f"input={path}"], PredictConfig)
    assert str(parse_overrides([word])["input"]) == path


def test_what_is_not_text_or_is_meant_for_hydra_is_left_alone():
    words = [
        "markups_max=1,2", "masks=null", "out='a b'", "out=${input}", "checkpoint=[a.pt,b.pt]",
        "--cfg", "job", "input",
    ]  # fmt: skip
    assert as_text(words, PredictConfig) == words
    assert as_text(["input=a,b", "-m"], PredictConfig) == ["input=a,b", "-m"]
    assert as_text(["input=a,b"], PredictConfig) == ["input='a,b'"]
