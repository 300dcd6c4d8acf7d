"""Which findings reach which patches."""

import numpy as np

from nodule_det.data.feed.plan import Samples
from nodule_det.data.feed.table import TruthTable
from tests.data.memory_scan import MemoryScan, finding, noise

THREE = MemoryScan(
    noise(),
    (
        finding((30, 30, 30), 8.0),
        finding((33, 30, 30), 6.0, excluded=True),
        finding((10, 60, 70), 30.0),
    ),
)
NONE = MemoryScan(noise(1))


def samples(*places):
    scan, corner = np.array([s for s, *_ in places]), np.array([c for _, *c in places])
    n = len(places)
    return Samples(scan, corner, np.zeros(n, int), np.zeros((n, 3), np.float32))


def table(masked=(False, False)):
    return TruthTable((THREE, NONE), np.array(masked), 32)


def test_balls_of_a_patch_lie_in_slots_of_their_own_excluded_ones_first():
    groups = table().balls_of(samples((0, 20, 20, 20), (1, 20, 20, 20), (0, 40, 0, 0)))
    assert [(g.rows.tolist(), g.edge) for g in groups] == [([0], 8), ([0], 16)]
    assert [g.numbers[0, 8] for g in groups] == [1, 0]  # excluded, then not
    np.testing.assert_allclose(groups[1].numbers[0, :3], [10, 10, 10])


def test_a_box_lies_in_its_patch_also_where_the_ball_does_not():
    (group,) = table().balls_of(samples((0, 0, 40, 40)))
    assert group.edge == 32
    assert (group.numbers[0, 3:6] == 0).all()


def test_patches_that_no_finding_reaches_have_no_groups():
    assert table().balls_of(samples((1, 0, 0, 0), (0, 40, 0, 0))) == []


def test_masks_list_the_lesions_of_their_scan_wherever_these_lie():
    chosen = samples((0, 20, 20, 20), (1, 20, 20, 20))
    masks = table((True, True)).masks_of(chosen)
    assert masks.rows.tolist() == [0]
    np.testing.assert_allclose(masks.lesions[0, :, :4], [[30, 30, 30, 4], [10, 60, 70, 15]])
    assert table().masks_of(chosen) is None


def test_a_lesion_with_a_mask_is_drawn_as_the_smallest_ball_and_an_excluded_one_as_it_is():
    groups = table((True, False)).balls_of(samples((0, 20, 20, 20)))
    reach = [g.numbers[0, 6] for g in groups]
    np.testing.assert_allclose(reach, [3 - 1 / 36 + 0.5, 1.5 - 1 / 18 + 0.5])
