"""Settings of hits, which ``evaluate`` and ``report`` share."""

from __future__ import annotations

from enum import Enum

from nodule_det.errors import ConfigError


class HitBy(Enum):
    """What decides whether a candidate hits a lesion."""

    centre = "centre"
    iou = "iou"
    mask = "mask"


def check_hits(hit: HitBy, iou: float, masks: str, candidate_masks: str) -> None:
    """Refuse settings of hits that do not fit together."""
    if not 0 < iou <= 1:
        raise ConfigError(f"iou={iou:g} must be above 0 and at most 1, such as 0.1")
    if hit is HitBy.mask and not masks:
        raise ConfigError("hit=mask needs the masks of the lesions: set masks=FOLDER")
    if hit is HitBy.iou and bool(masks) != bool(candidate_masks):
        raise ConfigError(
            "hit=iou compares boxes, or the masks of both: set masks=FOLDER and "
            "candidate_masks=FOLDER, or neither"
        )
    if hit is HitBy.centre and (masks or candidate_masks):
        raise ConfigError("hit=centre uses no masks: add hit=mask, or hit=iou, or drop masks")
    if hit is HitBy.mask and candidate_masks:
        raise ConfigError("hit=mask looks at candidates' points: use hit=iou for their masks")
