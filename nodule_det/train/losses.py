"""The loss: focal cross-entropy in which every lesion has the same weight, whatever its size.

A patch of 64^3 has 262,144 voxels, of which a nodule of 4 mm has 34.  Three decisions follow.

**Optimise a ranking, not an overlap.**  FROC ranks the peaks of all scans in one list, so the
probabilities of peaks in different scans must be comparable.  The optimum under cross-entropy is a
monotone function of the probability that a voxel is lesion, whatever the class weights.  Focal
cross-entropy keeps that order (Charoenphakdee et al. 2021).  The optimum under soft Dice is a hard
mask (Bertels et al. 2021): confident peaks, true or false, all come near 1.

**Down-weight easy voxels.**  Nearly all background is fat, air or bone, which a network learns
after a few steps, yet its sheer amount drowns the few vessels mistaken for nodules.  With the
factor ``|target - p|`` (focal loss, Lin et al. 2017; for soft targets, Li et al. 2020) the gradient
comes from what is still wrong, where false positives arise.

**Weight all lesions equally**, with a small total.  The weights of the feed do this
(``LESION_SHARE`` in ``data/feed/targets.py``).

Measured on phantoms (110 training scans, 180 nodules in 60 other scans, 1000-1500 steps of 8
patches of 32^3, a residual U-Net of 8 filters and depth 3 at full resolution, not that of
``model/``).  The table has the pAUC of each run; seeds differ by 0.02.  The lesion share matters
most, the exponent little, and Dice without lesion weights loses small nodules.

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
| Dice + cross-entropy, equal voxel weights | | .739 |

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
"""Exponent of the factor that down-weights easy voxels.  Lin et al. used 2, which leaves
probabilities closer to 0.5 and was not better here."""


def detection_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the loss of a batch of logits.

    Computed in float32 even if autocast runs the network with fewer bits, since the terms span many
    orders of magnitude.  The order of patches and voxels does not matter.

    Args:
        logits: (n, 1, z, y, x) of any floating type.
        target: (n, 1, z, y, x) in [0, 1].
        weight: (n, 1, z, y, x), 0 where a voxel does not count.

    Returns:
        Scalar float32: the weighted sum of voxel losses divided by the number of voxels that count,
        0 if none does.  So it does not depend on the size of patch and batch, and a batch without
        lesions is not inflated.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, target, weight = logits.float(), target.float(), weight.float()
        surprise = (target - torch.sigmoid(logits)).abs().pow(FOCUS)
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        counted = (weight > 0).sum().clamp(min=1)
        return (weight * surprise * entropy).sum() / counted
