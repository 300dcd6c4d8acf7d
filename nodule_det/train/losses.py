"""The loss: cross-entropy that looks away from what is easy, and counts lesions, not voxels.

A patch of 64^3 has 262,144 voxels and a nodule of 4 mm has 34 of them.  Three things follow.

**A score to rank by, not an overlap.**  FROC ranks peaks of all scans in one list, so the
probability of a peak in one scan must compare with that of a peak in another.  The best answer
under cross-entropy is a monotone function of the chance that a voxel is lesion, whatever the class
weights; focal cross-entropy keeps that order too (Charoenphakdee et al. 2021).  The best answer
under soft Dice is a hard mask (Bertels et al. 2021): sure peaks, true or false, all come near 1.

**Easy voxels fade out.**  Nearly all background is fat, air or bone that a network knows after
some steps, yet together it drowns the few vessels that it takes for nodules.  The factor
``|target - p|`` (focal loss, Lin et al. 2017; for soft targets, Li et al. 2020) leaves the
gradient to what is still wrong, which is where false positives come from.

**Each lesion counts the same**, and little.  The feed's weights see to that (``LESION_SHARE`` in
``data/targets.py``).

Measured on phantoms (110 scans to train on, 180 nodules in 60 others, 1000-1500 steps of 8 patches
of 32^3, a residual U-Net of 8 filters and depth 3 that works at full resolution, not the one of
``model/``; pAUC, one value for each run; runs that differ by seed differ by 0.02): the share of the
lesions matters most, the exponent little, and Dice without lesion weights loses small nodules.

| loss | lesion share | pAUC |
| --- | --- | --- |
| this one (exponent 1) | 0.01 | .894 |
| | 0.1 | .853 .855 |
| exponent 2 | 0.002, 0.005 | .871, .874 |
| | 0.02 | .885 .866 .866 |
| | 0.1, 0.5, 2 | .856 .851, .813 .822, .745 .742 |
| exponent 0: plain cross-entropy | 0.005, 0.01 | .844, .865 |
| | 0.02, 0.1, 0.5 | .878 .858, .859 .868, .795 .806 |
| Dice + cross-entropy, lesions weighted | 0.02 | .874 |
| Dice + cross-entropy, voxels alike | | .739 |

References:
    Bertels et al. 2021, Theoretical analysis and experimental validation of volume bias of soft
        Dice optimized segmentation maps, Medical Image Analysis.
    Charoenphakdee et al. 2021, On focal loss for class-posterior probability estimation, CVPR.
    Li et al. 2020, Generalized focal loss, NeurIPS.
    Lin et al. 2017, Focal loss for dense object detection, ICCV.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FOCUS = 1.0
"""Exponent of the factor that fades out easy voxels.  Lin et al. took 2, which leaves probabilities
nearer to 0.5 and was no better here."""


def detection_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compare a batch of logits with its targets.

    Computed in float32 also where autocast runs the network in fewer bits: the terms span many
    orders of magnitude.  The order of patches and voxels does not matter.

    Args:
        logits: (n, 1, z, y, x) of any floating type.
        target: (n, 1, z, y, x) in [0, 1].
        weight: (n, 1, z, y, x), 0 where a voxel does not count.

    Returns:
        Scalar float32: weighted sum of the voxels' losses over the number of voxels that count;
        0 where none does.  So it does not depend on the size of patch and batch, and a batch
        without lesions is not blown up.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, target, weight = logits.float(), target.float(), weight.float()
        surprise = (target - torch.sigmoid(logits)).abs().pow(FOCUS)
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        counted = (weight > 0).sum().clamp(min=1)
        return (weight * surprise * entropy).sum() / counted
