"""A detector that is not a network of logits: it predicts boxes, without a volume of scores."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from torch import nn

from nodule_det.candidates import ScanCandidates
from nodule_det.model import normalise


class BrightBoxes(nn.Module):
    """Predicts a box around each bright blob in the lungs."""

    reach_vox = 0

    def __init__(self):
        super().__init__()
        self.count = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, image):
        return self.count(image)

    def loss(self, forward, image_hu, target, weight):
        """Regress the number of lesion voxels of each patch."""
        counted = forward(normalise(image_hu)).mean(dim=(1, 2, 3, 4))
        return ((counted - target.mean(dim=(1, 2, 3, 4))) ** 2).mean()

    def search(self, volume_hu):
        return volume_hu > -200

    def candidates(self, found, grid, inside):
        labels, n = ndimage.label(found.numpy() & inside)
        boxes = ndimage.find_objects(labels)
        centers = np.array([[(s.start + s.stop - 1) / 2 for s in box] for box in boxes])
        edges = np.array([np.mean([s.stop - s.start for s in box]) for box in boxes])
        return ScanCandidates(grid.to_world(centers), np.full(n, 0.5), edges * grid.spacing_mm[0])


class BrokenLoss(BrightBoxes):
    """Fails in its loss."""

    def loss(self, forward, image_hu, target, weight):
        raise IndexError("no anchor\nin this batch")
