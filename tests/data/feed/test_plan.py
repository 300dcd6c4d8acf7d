"""Which samples a batch is made of."""

import numpy as np

from nodule_det.config.train import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from nodule_det.data.feed.plan import PLANNED_AT_ONCE, EpochPlan
from tests.data.memory_scan import MemoryScan, finding, noise

SCANS = (
    MemoryScan(noise(0), (finding((30, 40, 50), 8.0), finding((50, 20, 20), 4.0))),
    MemoryScan(noise(1), (finding((4, 5, 77), 6.0), finding((40, 40, 40), 12.0, excluded=True))),
)


def plan(copies=1, per_epoch=8, batch_size=4, **augment):
    return EpochPlan(
        SCANS,
        TrainConfig(
            patches=PatchConfig(per_epoch=per_epoch),
            optim=OptimConfig(batch_size=batch_size),
            augment=AugmentConfig(copies=copies, **augment),
        ),
    )


def test_the_first_of_each_group_is_the_patch_as_drawn_and_the_others_are_near_it():
    samples, patches = plan(copies=3, shift_vox=5).draw(0, np.arange(32))
    corner = samples.corner.reshape(8, 4, 3)
    np.testing.assert_array_equal(corner[:, 0], patches.corner[::4])
    assert (samples.orientation[::4] == 0).all()
    assert 0 < np.abs(corner - corner[:, :1]).max() <= 5
    for values in (samples.scan, patches.kind):
        assert (values.reshape(8, 4) == values[::4, None]).all()


def test_copies_are_turned_and_mirrored_only_if_asked_for():
    def seen(**augment):
        orientations = plan(copies=4, per_epoch=40, **augment).draw(0, np.arange(200))[0]
        return set(orientations.orientation.tolist())

    assert seen(rotate=False) == {0}
    assert max(seen()) < 24 < len(seen()) + 4
    assert seen(rotate=False, mirror=True) == {0, 24}
    assert max(seen(mirror=True)) > 24


def test_mirroring_and_intensities_leave_the_other_draws_as_they_were():
    plain, _ = plan(copies=4, per_epoch=40).draw(3, np.arange(200))
    more, _ = plan(copies=4, per_epoch=40, mirror=True, noise_hu=9).draw(3, np.arange(200))
    np.testing.assert_array_equal(more.corner, plain.corner)
    np.testing.assert_array_equal(more.orientation % 24, plain.orientation)


def test_intensities_stay_in_their_ranges_and_only_copies_have_them():
    samples, _ = plan(copies=3, per_epoch=100, noise_hu=30.0, contrast=0.2, scale=0.1).draw(
        0, np.arange(400)
    )
    values = samples.intensity.reshape(100, 4, 3)
    assert (values[:, 0] == [0, 1, 1]).all()
    low, high = values[:, 1:].min(axis=(0, 1)), values[:, 1:].max(axis=(0, 1))
    np.testing.assert_allclose(low, [0, 0.8, 0.9], atol=0.6)
    assert (low >= np.float32([0, 0.8, 0.9])).all()
    assert (high <= np.float32([30, 1.2, 1.1])).all()
    assert (high - low > np.array([25, 0.3, 0.15])).all()


def test_a_batch_is_the_same_wherever_the_planning_of_its_neighbours_begins():
    epoch = plan(per_epoch=PLANNED_AT_ONCE, copies=0, batch_size=3)
    at_the_seam = PLANNED_AT_ONCE // 3
    for step in (0, at_the_seam - 1, at_the_seam, at_the_seam - 1):
        again = plan(per_epoch=PLANNED_AT_ONCE, copies=0, batch_size=3).rows(5, step)
        np.testing.assert_array_equal(epoch.rows(5, step).corner, again.corner)
