"""Settings of hits: which fit together."""

import re

import pytest

from nodule_det.config.hits import HitBy, check_hits
from nodule_det.errors import ConfigError


@pytest.mark.parametrize(
    ("hit", "iou", "masks", "candidate_masks", "words"),
    [
        ("mask", 0.1, "", "", "hit=mask needs the masks of the lesions: set masks=FOLDER"),
        ("centre", 0.1, "m", "", "hit=centre uses no masks"),
        ("iou", 0.1, "m", "", "set masks=FOLDER and candidate_masks=FOLDER, or neither"),
        ("iou", 0.0, "", "", "iou=0 must be above 0 and at most 1"),
        ("iou", float("nan"), "", "", "iou=nan must be above 0 and at most 1"),
        ("mask", 0.1, "m", "c", "use hit=iou for their masks"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(hit, iou, masks, candidate_masks, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        check_hits(HitBy(hit), iou, masks, candidate_masks)


@pytest.mark.parametrize(
    ("hit", "masks", "candidate_masks"),
    [("centre", "", ""), ("iou", "", ""), ("iou", "m", "c"), ("mask", "m", "")],
)
def test_each_rule_has_its_settings(hit, masks, candidate_masks):
    check_hits(HitBy(hit), 0.1, masks, candidate_masks)
