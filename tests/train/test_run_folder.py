"""A run folder is locked, refused for other settings, and described."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

import pytest
import yaml

from nodule_det.config.train import LimitConfig, OptimConfig, TrainConfig
from nodule_det.errors import BusyError, ConfigError
from nodule_det.files import read_jsonl
from nodule_det.runs import RunFolder, RunStatus
from nodule_det.train.run_folder import (
    cut_metrics,
    describe,
    earlier_result,
    held,
    logging_to,
    refuse_other_settings,
)

CONFIG = TrainConfig(store="stores/a", optim=OptimConfig(lr=1e-3))


def test_metrics_of_steps_that_will_be_repeated_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    rows = [
        {"kind": "train", "step": 6, "epoch": 0},
        {"kind": "validation", "step": 6, "epoch": 1},
        {"kind": "train", "step": 12, "epoch": 1},
        {"kind": "validation", "step": 12, "epoch": 2},
        {"kind": "train", "step": 14, "epoch": 2},
    ]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tra')
    cut_metrics(folder, step=12, validated=1)
    assert read_jsonl(folder.metrics) == rows[:3]


def test_a_folder_is_free_again_after_its_block(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    for _ in range(2):
        with (
            held(folder),
            pytest.raises(BusyError, match="in use by another training"),
            held(folder),
        ):
            pass


def test_settings_that_affect_the_weights_must_be_equal_and_limits_may_differ(tmp_path):
    folder = RunFolder(tmp_path)
    refuse_other_settings(folder, CONFIG)  # an empty folder suits every run
    describe(folder, CONFIG, {})
    refuse_other_settings(folder, replace(CONFIG, limits=LimitConfig(wall_s=3600)))
    with pytest.raises(ConfigError, match=r"optim\.lr=0\.001.*optim\.lr=0\.01"):
        refuse_other_settings(folder, replace(CONFIG, optim=OptimConfig(lr=1e-2)))


def test_a_setting_that_an_older_version_lacked_counts_as_its_default(tmp_path):
    folder = RunFolder(tmp_path)
    describe(folder, CONFIG, {})
    saved = yaml.safe_load(folder.config.read_text())
    del saved["model"]["full_resolution"]
    folder.config.write_text(yaml.safe_dump(saved))
    refuse_other_settings(folder, CONFIG)


def test_the_earlier_result_is_none_at_first_and_a_damaged_one_is_reported(tmp_path):
    folder = RunFolder(tmp_path)
    assert earlier_result(folder) is None
    folder.result.write_text('{"status": "stopped", "step": 7}')
    assert earlier_result(folder).status is RunStatus.STOPPED
    folder.result.write_text('{"status": "sto')
    with pytest.raises(ConfigError, match=r"result\.json is damaged .* delete it"):
        earlier_result(folder)


def test_a_log_ends_with_its_block(tmp_path):
    folder, log = RunFolder(tmp_path), logging.getLogger("nodule_det.test_run_folder")
    with logging_to(folder, log):
        log.info("inside")
    log.info("outside")
    assert folder.log.read_text().splitlines()[0].endswith("INFO inside")
    assert "outside" not in folder.log.read_text()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_fifo_or_folder_in_place_of_a_log_is_refused_without_waiting(tmp_path, make):
    folder = RunFolder(tmp_path)
    make(folder.metrics)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl cannot be read"):
        cut_metrics(folder, step=1, validated=0)
    make(folder.log)
    with (
        pytest.raises(ConfigError, match=r"train\.log is not a regular file"),
        logging_to(folder, logging.Logger("test")),
    ):
        pass
