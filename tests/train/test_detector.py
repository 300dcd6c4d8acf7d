"""The seam between the loop and a detector, with a detector that is not a network of logits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nodule_det.config.export import ExportConfig
from nodule_det.config.predict import PredictConfig
from nodule_det.config.score import ScoreConfig
from nodule_det.config.train import Device, LimitConfig, ModelConfig, Precision
from nodule_det.data.store import open_store
from nodule_det.errors import CheckpointError, ConfigError, ExitCode, OwnCodeError
from nodule_det.export.__main__ import main as export
from nodule_det.model import normalise, receptive_field
from nodule_det.predict.__main__ import main as predict
from nodule_det.runs import RunFolder, RunStatus
from nodule_det.score.scoring import score
from nodule_det.tables import read_table
from nodule_det.train.detector import Segmenter
from nodule_det.train.losses import detection_loss
from nodule_det.train.run import run
from nodule_det.train.run_folder import earlier_result
from nodule_det.train.step import Stepper
from nodule_det.train.validate import Searcher, lesions_of, match
from tests.predict.test_main import NODULES, ORIGIN_MM, SPACING_MM, chest, write_scan
from tests.train.bright_boxes import BrightBoxes
from tests.train.tiny_run import same_bits, tiny

CPU = torch.device("cpu")


def test_a_detector_of_boxes_goes_through_search_and_matching(store):
    scans = open_store(store).validation(0)
    found = [candidates for _, candidates in Searcher(BrightBoxes(), CPU).search(scans)]
    matched = match(scans, found)
    assert matched.found.all()  # every ball of 8 and 10 mm, each in its own scan
    np.testing.assert_allclose(
        np.sort(np.concatenate([f.diameter_mm for f in found])),
        [9] * 3 + [11] * 3,  # voxels across: 8 mm / 2 either way, and the one in the middle
    )
    assert matched.n_lesions == len(lesions_of(scans, excluded=False)) == 6


def test_the_loss_of_a_detector_is_what_a_step_lowers(trainer):
    one = trainer()
    weight = next(one.model.parameters()).clone()
    step = Stepper(one, one.model, BrightBoxes())
    batch = one.feed.batch(0, 0)
    with torch.no_grad():
        expected = BrightBoxes().loss(one.model, *batch.parts()).item()
    step(batch)
    loss_sum, bad = step.read(reset=False).wait()
    assert bad == -1
    assert abs(loss_sum - expected) < 1e-5 * expected
    assert not torch.equal(next(one.model.parameters()), weight)


def test_the_segmenter_compares_logits_and_knows_its_reach(trainer):
    one = trainer()
    config = one.config
    field = receptive_field(config.model)
    segmenter = Segmenter(one.model, config, field, CPU, torch.float32)
    assert segmenter.reach_vox == field.radius_vox
    batch = one.feed.batch(0, 0)
    expected = detection_loss(one.model(normalise(batch.image_hu)), batch.target, batch.weight)
    torch.testing.assert_close(segmenter.loss(one.model, *batch.parts()), expected)


def test_a_search_of_the_segmenter_is_measured_in_the_mask_only(trainer, store, tmp_path):
    one = trainer()
    config = tiny(store, tmp_path)
    scan = open_store(store).validation(0)[0]
    segmenter = Segmenter(one.model.eval(), config, receptive_field(config.model), CPU,
                          torch.float32)  # fmt: skip
    found = segmenter.search(torch.from_numpy(np.array(scan.volume())))
    nowhere = np.zeros(scan.grid.size_vox, bool)
    assert len(segmenter.candidates(found, scan.grid, nowhere)) == 0


FACTORY = "tests.train.bright_boxes.BrightBoxes"
BROKEN = "tests.train.bright_boxes.BrokenLoss"
ON_CPU = {"device": Device.cpu, "precision": Precision.fp32}


def test_a_detector_is_trained_resumed_used_and_scored_by_settings_alone(store, tmp_path):
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")

    def settings(folder, **limits):
        config = tiny(store, folder.path)
        limit = LimitConfig(epochs=1, **limits)
        return replace(config, model=ModelConfig(factory=FACTORY), limits=limit)

    assert run(settings(whole)) == ExitCode.COMPLETE
    assert run(settings(parts, wall_s=0.001)) == ExitCode.STOPPED
    assert run(settings(parts)) == ExitCode.COMPLETE
    assert same_bits(whole.checkpoint_best, parts.checkpoint_best)
    assert f"{FACTORY} finds candidates itself" in whole.log.read_text()
    found = read_table(whole.candidates, ("probability", "diameter_mm"))
    np.testing.assert_array_equal(np.unique(found.numbers("probability")), [0.5])
    np.testing.assert_array_equal(np.unique(found.numbers("diameter_mm")), [9, 11])

    checkpoint = str(whole.checkpoint_best)
    scoring = ScoreConfig(
        checkpoint=checkpoint, factory=FACTORY, store=str(store), fold=0, bootstrap=100,
        run_dir=str(tmp_path / "scored"), **ON_CPU,
    )  # fmt: skip
    assert score(scoring) == ExitCode.COMPLETE
    scored = RunFolder(tmp_path / "scored")
    assert scored.candidates.read_bytes() == whole.candidates.read_bytes()

    write_scan(tmp_path / "chest.nii.gz", chest())
    config = PredictConfig(
        checkpoint=checkpoint, factory=FACTORY, input=str(tmp_path / "chest.nii.gz"),
        out=str(tmp_path / "predicted"), **ON_CPU,
    )  # fmt: skip
    assert predict.main(config) == 0
    columns = ("coordX", "coordY", "coordZ")
    table = read_table(Path(config.out) / "candidates.csv", columns)
    points = np.stack([table.numbers(name) for name in columns], 1)
    for nodule in NODULES:
        world_mm = np.array(ORIGIN_MM) + np.multiply(nodule, SPACING_MM)[::-1]
        assert np.linalg.norm(points - world_mm, axis=1).min() < 2

    with pytest.raises(CheckpointError, match="finds candidates itself, and those of several net"):
        score(replace(scoring, views=8))
    words = re.escape(f"factory={FACTORY} finds candidates itself; only networks of logits can be")
    with pytest.raises(ConfigError, match=words):
        export.main(ExportConfig(checkpoint=checkpoint, factory=FACTORY, out=str(tmp_path / "a")))


def test_a_broken_loss_is_reported_in_one_line_and_its_traceback_is_in_the_log(store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    line = f"model.factory={BROKEN} failed in loss() (IndexError: no anchor in this batch); correct"
    with pytest.raises(OwnCodeError, match=re.escape(line)):
        run(replace(tiny(store, folder.path), model=ModelConfig(factory=BROKEN)))
    result = earlier_result(folder)
    assert result.status is RunStatus.FAILED
    assert result.message.startswith(line)
    assert "bright_boxes.py" in folder.log.read_text()  # where to look
