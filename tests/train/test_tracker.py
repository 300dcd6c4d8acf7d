"""Trackers read back by their own readers, and trackers that fail."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest

from nodule_det.config.train import CandidateConfig, LimitConfig, TrackerKind, ValidationConfig
from nodule_det.data.store import open_store
from nodule_det.errors import ExitCode
from nodule_det.runs import RunFolder
from nodule_det.train.run import run
from nodule_det.train.run_folder import logging_to
from nodule_det.train.tracker import NoTracker, make_tracker, worst_misses
from nodule_det.train.validate import match
from tests.train.test_validate import NOTHING
from tests.train.tiny_run import tiny


def tracked(store, run_dir, kind, **limits):
    return replace(
        tiny(store, run_dir),
        tracker=TrackerKind(kind),
        candidates=CandidateConfig(threshold=1.0),  # above any score: every lesion is missed
        validation=ValidationConfig(every_epochs=1, max_scans=1, bootstrap=100),
        limits=LimitConfig(epochs=2, **limits),
    )


def rows(folder, kind):
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [row for row in lines if row["kind"] == kind]


def test_tensorboard_shows_the_metrics_settings_and_misses_of_a_resumed_run(store, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = RunFolder(tmp_path / "run")
    assert run(tracked(store, folder.path, "tensorboard", wall_s=0.001)) == ExitCode.STOPPED
    assert run(tracked(store, folder.path, "tensorboard")) == ExitCode.COMPLETE
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    for kind, name in (("train", "loss"), ("train", "lr"), ("validation", "pauc")):
        shown = {e.step: e.value for e in events.Scalars(f"{kind}/{name}")}
        expected = {row["step"]: row[name] for row in rows(folder, kind)}
        assert shown == pytest.approx(expected)
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert plugin.plugin_name == "hparams"
    assert b"optim.lr" in plugin.content
    misses = [image.step for image in events.Images("misses/1")]
    assert misses == [6, 12]
    assert events.Images("misses/1")[0].width == 2 * 24 + 1


def test_mlflow_shows_the_metrics_settings_and_misses_of_a_resumed_run(store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert run(tracked(store, folder.path, "mlflow", wall_s=0.001)) == ExitCode.STOPPED
    assert run(tracked(store, folder.path, "mlflow")) == ExitCode.COMPLETE
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(folder.path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("nodule_det")
    (known,) = client.search_runs([experiment.experiment_id])  # one run, though resumed
    assert known.info.status == "FINISHED"
    assert known.data.params["optim.batch_size"] == "2"
    shown = {m.step: m.value for m in client.get_metric_history(known.info.run_id, "train/loss")}
    assert shown == pytest.approx({row["step"]: row["loss"] for row in rows(folder, "train")})
    names = [item.path for item in client.list_artifacts(known.info.run_id, "misses")]
    assert {"misses/1_step6.png", "misses/1_step12.png"} <= set(names)


def test_a_tracker_that_is_not_installed_is_said_once_and_the_training_completes(
    store, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what import meets where it is missing
    folder = RunFolder(tmp_path / "run")
    assert run(tracked(store, folder.path, "mlflow")) == ExitCode.COMPLETE
    said = folder.log.read_text()
    assert said.count("tracker=mlflow is not installed") == 1
    assert "run pip install 'nodule_det[mlflow]'; the training continues without it" in said


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_tracker_whose_disk_is_full_is_said_once(store, tmp_path, kind, small_disk):
    disk = small_disk("16k")
    config = tracked(store, tmp_path / "run", kind)
    (tmp_path / "log").mkdir()
    log = RunFolder(tmp_path / "log")
    with logging_to(log, logging.getLogger("nodule_det.train")):
        fill(make_tracker(RunFolder(disk), config, 0))
    said = log.log.read_text()
    assert said.count(f"tracker={kind} failed") == 1
    assert "No space left on device" in said
    assert "the training continues without it" in said


def fill(tracker):
    for step in range(20):
        tracker.log({"kind": "train", "step": step, "loss": 0.5})
        noise = np.random.default_rng(step).integers(0, 255, (64, 64), np.uint8)
        tracker.images(step, {"misses/1": noise})
    tracker.close()


def test_the_largest_misses_are_drawn_in_the_lung_window(store):
    scans = open_store(store).validation(0)
    images = worst_misses(scans, match(scans, [NOTHING] * len(scans)))
    assert list(images) == ["misses/1", "misses/2", "misses/3", "misses/4"]
    square = images["misses/1"]
    assert square.shape == (49, 49)
    # soft tissue of 50 HU in a window of -1350 to 150: 1400 of 1500
    assert square[24, 24] == round(1400 / 1500 * 255)


def test_no_tracker_is_the_default(store, tmp_path):
    assert isinstance(make_tracker(RunFolder(tmp_path), tiny(store, tmp_path), 0), NoTracker)
    assert list(tmp_path.iterdir()) == []
