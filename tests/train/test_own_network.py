"""MONAI's networks by settings alone: trained, resumed to the bit, searched and predicted with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nodule_det.checkpoint import load_checkpoint, load_model
from nodule_det.config.files import saved_settings
from nodule_det.config.score import ScoreConfig
from nodule_det.config.train import (
    Device,
    LimitConfig,
    ModelConfig,
    Precision,
    TrainConfig,
    ValidationConfig,
)
from nodule_det.errors import CheckpointError, ConfigError, ExitCode
from nodule_det.hpo.study.study import read_study
from nodule_det.hpo.study.trial import TrialState
from nodule_det.runs import RunFolder, RunStatus
from nodule_det.score.scoring import score
from nodule_det.train.run import run
from nodule_det.train.run_folder import earlier_result
from tests.train.tiny_run import WORDS, ended, same_bits, start, tiny

ONE_CHANNEL = {"spatial_dims": 3, "in_channels": 1, "out_channels": 1}
DYNUNET = {
    **ONE_CHANNEL, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
    "filters": [2, 4, 8],
}  # fmt: skip
NETWORKS = {
    "SegResNet": {**ONE_CHANNEL, "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1],
                  "dropout_prob": 0.2},
    "DynUNet": {**DYNUNET, "norm_name": "batch"},
    "AttentionUnet": {**ONE_CHANNEL, "channels": [2, 4], "strides": [2], "dropout": 0.1},
}  # fmt: skip
"""Two with dropout, which must be the same after a resume."""


def settings(store, run_dir, name, **limits) -> TrainConfig:
    model = ModelConfig(factory=f"monai.networks.nets.{name}", kwargs=NETWORKS[name])
    return replace(
        tiny(store, run_dir),
        model=model,
        validation=ValidationConfig(max_scans=1, bootstrap=100),
        limits=LimitConfig(epochs=1, **limits),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_monai_trains_and_resumes_to_the_bit(store, tmp_path, name):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    assert run(settings(store, whole.path, name)) == ExitCode.COMPLETE
    assert run(settings(store, parts.path, name, wall_s=0.001)) == ExitCode.STOPPED
    assert 0 < load_checkpoint(parts.checkpoint_last).meta.step < 6
    assert run(settings(store, parts.path, name)) == ExitCode.COMPLETE
    assert same_bits(whole.checkpoint_best, parts.checkpoint_best)
    assert whole.candidates.read_bytes() == parts.candidates.read_bytes()
    assert earlier_result(parts).status is RunStatus.COMPLETE

    said = whole.log.read_text()
    field = load_checkpoint(whole.checkpoint_best).meta.measured
    if name == "DynUNet":
        assert (field.stride_vox, field.radius_vox) == (4, 20)
        assert "an output voxel sees 20 voxels either way, at a stride of 4" in said
    else:
        assert field.radius_vox is None
        assert "overlapping windows of 32 voxels with Gaussian blending" in said
    assert "voxels either way" not in parts.log.read_text().split("resuming")[1]  # measured once


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """Return the folder of a complete run of a network of MONAI."""
    folder = RunFolder(tmp_path_factory.mktemp("own") / "run")
    run(settings(store, folder.path, "DynUNet"))
    return folder


def test_a_checkpoint_imports_no_code_that_the_user_did_not_name(trained, tmp_path, monkeypatch):
    content = torch.load(trained.checkpoint_best, weights_only=True)
    content["meta"]["model"]["factory"] = "planted.net"
    (tmp_path / "planted.py").write_text("raise SystemExit('planted code ran')")
    monkeypatch.syspath_prepend(tmp_path)
    foreign = tmp_path / "foreign.pt"
    torch.save(content, foreign)
    for named, words in (
        ("", "needs model.factory=planted.net, which runs code outside nodule_det; if you trust"),
        ("monai.networks.nets.DynUNet", "factory=monai.networks.nets.DynUNet was set; if you tru"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_model(foreign, named)
    assert "planted" not in sys.modules
    with pytest.raises(ConfigError, match=r"planted\.net cannot be imported \(SystemExit: plant"):
        load_model(foreign, "planted.net")
    model, meta = load_model(trained.checkpoint_best, "monai.networks.nets.DynUNet")
    assert meta.model.kwargs == NETWORKS["DynUNet"]
    assert not model.training


def test_a_network_of_ones_own_is_scored_if_its_factory_is_named(trained, store, tmp_path):
    config = ScoreConfig(
        checkpoint=str(trained.checkpoint_best), store=str(store), fold=0, bootstrap=100,
        run_dir=str(tmp_path / "scored"), device=Device.cpu, precision=Precision.fp32,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"needs model\.factory=monai\.networks\.nets\.DynU"):
        score(config)
    named = replace(config, factory="monai.networks.nets.DynUNet")
    assert score(named) == ExitCode.COMPLETE


@pytest.mark.parametrize(
    ("factory", "kwargs", "words"),
    [
        ("no_such.net", {}, "model.factory=no_such.net cannot be imported"),
        ("monai.networks.nets.SegResNet", {"x": 1}, "cannot be called with model.kwargs={'x': 1}"),
        ("monai.networks.nets.DynUNet", {}, "missing a required argument: 'spatial_dims'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_refused_before_there_is_a_folder(
    store, tmp_path, factory, kwargs, words
):
    config = tiny(store, tmp_path / "run")
    config.model.factory, config.model.kwargs = factory, kwargs
    with pytest.raises(ConfigError, match=re.escape(words)):
        run(config)
    assert not (tmp_path / "run").exists()


def test_a_study_tunes_the_arguments_of_a_network_of_ones_own(store, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {model.kwargs.init_filters: {kind: ordinal, values: [8, 16]}}")
    run_dir = tmp_path / "study"
    kwargs = (
        "{spatial_dims: 3, in_channels: 1, out_channels: 1, blocks_down: [1, 1], blocks_up: [1]}"
    )
    tiny_words = [f"train.{word}" for word in WORDS if not word.startswith("model.")]
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.hpo", f"study={run_dir}", f"search_space={space}",
         "trials=2", "dispatcher.poll_s=0.1", "keep.pack=false", f"train.store={store}",
         "train.limits.epochs=1",
         "train.validation.max_scans=1", "train.model.factory=monai.networks.nets.SegResNet",
         f"train.model.kwargs={kwargs}", *tiny_words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = read_study(run_dir)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    for trial in study.trials:
        (config,) = run_dir.glob(f"trials/*{trial.number}/config.yaml")
        kwargs = saved_settings(config)["model"]["kwargs"]
        assert kwargs["init_filters"] == trial.params["model.kwargs.init_filters"]
        assert kwargs["blocks_down"] == [1, 1]


def test_another_shape_is_refused_in_one_line_on_the_command_line(store, tmp_path):
    kwargs = "model.kwargs={in_channels: 1, out_channels: 2, kernel_size: [1, 1, 1]}"
    words = (f"run_dir={tmp_path / 'run'}", "model.factory=torch.nn.Conv3d", kwargs)
    code, out, err = ended(start(store, *words))
    assert (code, out) == (ExitCode.BAD_INPUT, "")
    assert err.startswith(
        "error: model.factory=torch.nn.Conv3d maps (2, 1, 32, 32, 32) to (2, 2, 32, 32, 32) in "
    )
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
