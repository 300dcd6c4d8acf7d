"""A batch on the device where the network runs, and changes of intensity drawn there.

Batch(image_hu, target, weight) ──vary_intensity()──▶ the same with noise, contrast and scale
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nodule_det.data.feed.draws import Stream

AIR_HU = -1024
"""Value of a patch outside the scan.  The network's window maps it to 0, which is also what its
convolutions see around a whole scan."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The data of one optimiser step: n patches of edge W.

    Attributes:
        image_hu: (n, 1, W, W, W) HU, int16, or float32 where intensities are augmented.
        target: (n, 1, W, W, W) float32 in [0, 1]: how much of a voxel lies in a lesion.
        weight: (n, 1, W, W, W) float32: weight of each voxel, 0 where nothing is known.
    """

    image_hu: Tensor
    target: Tensor
    weight: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, target and weight."""
        return self.image_hu, self.target, self.weight


def noise_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of a batch's noise, which depends only on its position in the run."""
    words = np.random.SeedSequence([Stream.INTENSITY, seed, epoch, step, rank])
    return int(words.generate_state(1, np.uint64)[0] >> np.uint64(1))


def vary_intensity(batch: Batch, intensity: Tensor, seed: int) -> Batch:
    """Change contrast and scale of a batch's images, and add noise.

    Contrast is about the mean of each patch, scale about air.  A patch with a factor of 1, 1 and
    no noise keeps its values.  The noise comes from the device's own generator: the same seed
    gives the same noise on the same kind of device.

    Args:
        batch: Patches in HU.
        intensity: (n, 3) noise in HU, contrast factor, scale factor; on the batch's device.
        seed: See :func:`noise_seed`.
    """
    image = batch.image_hu.float()
    noise, contrast, scale = (part.view(-1, 1, 1, 1, 1) for part in intensity.unbind(1))
    mean = image.mean(dim=(1, 2, 3, 4), keepdim=True)
    image = torch.where(contrast == 1, image, (image - mean) * contrast + mean)
    image = torch.where(scale == 1, image, (image - AIR_HU) * scale + AIR_HU)
    generator = torch.Generator(image.device).manual_seed(seed)
    drawn = torch.randn(image.shape, generator=generator, device=image.device)
    return replace(batch, image_hu=image + noise * drawn)
