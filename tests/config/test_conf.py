"""Every file in conf/ states its purpose in its first lines, and every command composes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from nodule_det.cli import to_config
from nodule_det.commands import load
from nodule_det.config.crossval import CrossvalConfig, Selection
from nodule_det.config.hpo import HpoConfig
from nodule_det.config.train import TrainConfig
from nodule_det.forecast.forecast import Data, forecast

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_a_file_begins_with_its_purpose(path):
    assert any(line.startswith("# ") for line in path.read_text().splitlines()[:2])


COMMANDS = {
    "train": ("experiment", TrainConfig, []),
    "hpo": ("trainings", HpoConfig, ["study=s"]),
    "crossval": ("protocol", CrossvalConfig, ["out=o"]),
}
"""Command -> group of its presets, its settings, and words that it needs."""


def composed(command, preset):
    group, schema, words = COMMANDS[command]
    load(command)  # registers its schema
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return to_config(compose(command, [*words, f"{group}={preset}"]), schema)


@pytest.mark.parametrize("preset", ["luna16", "luna16_16gb"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_luna16_preset_shows_each_lesion_as_often_as_the_best_recipes(command, preset):
    config = composed(command, preset)
    train = config if command == "train" else config.train
    nine_folds = Data(n_scans=799, n_lesions=1067, n_validated=89, validated_voxels=89 * 3e7)
    expected = forecast(train, nine_folds, None)
    assert expected.patches == pytest.approx(648_000, rel=1e-3)
    assert expected.views == pytest.approx(304, abs=1)  # MONAI 300, nnDetection 280
    assert expected.steps == 80 * (2700 * 3 // 16)
    assert expected.memory_bytes < 16e9 / 2  # the scans and validation take the rest
    assert train.candidates.max_per_scan == 100
    assert train.feed.memory_gb == (6.0 if preset == "luna16_16gb" else None)


def test_luna16_is_cross_validated_by_its_ten_subsets():
    config = composed("crossval", "luna16")
    assert (config.selection, config.folds) == (Selection.other, list(range(10)))
