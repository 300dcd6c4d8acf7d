"""What decides about hits: from settings to rules."""

import numpy as np
import pytest

from nodule_det.config.hits import HitBy as Setting
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.hits import Boxes, Masks, Sizes, describe, hit_by, read_rules
from nodule_det.froc import NO_LESIONS, match
from tests.analysis.froc_jobs import as_candidates, as_lesions

TABLES = (as_lesions([("a", 0, 0, 0, 4)]), as_candidates([("a", 3, 0, 0, 0.5)]), NO_LESIONS)
CASES = np.array(["a"])


def test_without_a_rule_the_distance_to_the_centre_decides():
    assert read_rules(None, CASES, TABLES) is None


def test_boxes_decide_by_their_overlap():
    # 16 of 64 + 64 - 16 voxels: 1/7.
    sizes = Sizes(np.full((1, 3), 4.0), np.full((1, 3), 4.0), np.empty((0, 3)))
    for iou, found in ((1 / 7, True), (0.15, False)):
        rules = read_rules(Boxes(iou), CASES, TABLES, sizes)
        assert match(CASES, *TABLES, rules).found.tolist() == [found]


def test_boxes_without_sizes_are_refused():
    with pytest.raises(FrocInputError, match="hits by boxes need the sizes of all boxes"):
        read_rules(Boxes(), CASES, TABLES)


@pytest.mark.parametrize("odd", ["iou", 0.1, {"iou": 0.1}])
def test_anything_else_is_refused(odd):
    with pytest.raises(FrocInputError, match=r"is not a rule: use Boxes\(iou=0.1\)"):
        read_rules(odd, CASES, TABLES)


def test_settings_become_a_rule_and_its_description():
    assert hit_by(Setting.centre, 0.1, "", "") is None
    assert hit_by(Setting.iou, 0.2, "", "") == Boxes(0.2)
    assert hit_by(Setting.mask, 0.1, "m", "") == Masks("m", None, 0.1)
    assert hit_by(Setting.iou, 0.3, "m", "c") == Masks("m", "c", 0.3)
    assert describe(None) == ""
    assert describe(Boxes(0.2)) == "a hit is a box with an IoU of at least 0.2 with the lesion's"
    assert describe(Masks("m")) == "a hit lies in the lesion's mask"
    assert describe(Masks("m", "c", 0.3)).startswith("a hit is a mask with an IoU of at least 0.3")
