"""The seam between the loop and a detector, with a detector that is not a network of logits."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from nodule_det.candidates import ScanCandidates
from nodule_det.data.store import open_store
from nodule_det.model import normalise, receptive_field
from nodule_det.train.detector import Segmenter
from nodule_det.train.losses import detection_loss
from nodule_det.train.step import Stepper
from nodule_det.train.validate import Searcher, lesions_of, match
from tests.train.tiny_run import tiny

CPU = torch.device("cpu")


class BrightBoxes:
    """Predicts a box around each bright blob, as a detector of boxes would: no volume of scores."""

    reach_vox = 0

    def loss(self, forward, image_hu, target, weight):
        """Regress the number of lesion voxels of each patch."""
        counted = forward(normalise(image_hu)).mean(dim=(1, 2, 3, 4))
        return ((counted - target.mean(dim=(1, 2, 3, 4))) ** 2).mean()

    def search(self, volume_hu):
        return volume_hu > -200

    def candidates(self, found, grid, inside):
        labels, n = ndimage.label(found.numpy())
        boxes = ndimage.find_objects(labels)
        centers = np.array([[(s.start + s.stop - 1) / 2 for s in box] for box in boxes])
        edges = np.array([np.mean([s.stop - s.start for s in box]) for box in boxes])
        return ScanCandidates(grid.to_world(centers), np.full(n, 0.5), edges * grid.spacing_mm[0])


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
