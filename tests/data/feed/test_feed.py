"""The batches of a training run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.config.train import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from nodule_det.data.feed.augment import ROTATIONS
from nodule_det.data.feed.feed import AIR_HU, Feed, cut, odd_pitched
from nodule_det.data.scan import Prepared, ScanEntry
from nodule_det.data.store import StoreInfo, open_store, write_info, write_scan
from nodule_det.errors import ConfigError
from nodule_det.files import write_json
from tests.data.memory_scan import MemoryScan, finding, noise

SCANS = (
    MemoryScan(noise(0), (finding((30, 40, 50), 8.0), finding((50, 20, 20), 4.0))),
    MemoryScan(noise(1), (finding((4, 5, 77), 6.0), finding((40, 40, 40), 12.0, excluded=True))),
)


def settings_of(batch_size=4, per_epoch=8, copies=1, seed=0, **augment):
    return TrainConfig(
        seed=seed,
        patches=PatchConfig(per_epoch=per_epoch),
        optim=OptimConfig(batch_size=batch_size),
        augment=AugmentConfig(copies=copies, **augment),
    )


def arrays(batch):
    return batch.image_hu, batch.target, batch.weight


def assert_same(a, b):
    for one, other in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_has_the_shapes_and_types_it_promises():
    batch = Feed(SCANS, settings_of()).batch(0, 0)
    assert [a.shape for a in arrays(batch)] == 3 * [(4, 1, 32, 32, 32)]
    assert [a.dtype for a in arrays(batch)] == [np.int16, np.float32, np.float32]


def test_copies_are_patches_of_the_epoch_and_its_remainder_is_left_out():
    feed = Feed(SCANS, settings_of(batch_size=6, per_epoch=10, copies=2))
    assert feed.epoch_size == 30
    assert feed.steps_per_epoch == 5
    assert Feed(SCANS, settings_of(batch_size=8, per_epoch=10, copies=2)).steps_per_epoch == 3


def test_a_batch_depends_on_seed_epoch_and_step_alone():
    feed = Feed(SCANS, settings_of())
    later = feed.batch(1, 2)
    feed.batch(0, 1)
    assert_same(feed.batch(1, 2), later)
    assert_same(Feed(SCANS, settings_of()).batch(1, 2), later)
    assert not np.array_equal(Feed(SCANS, settings_of(seed=1)).batch(1, 2).image_hu, later.image_hu)


def test_a_sample_is_the_same_whatever_the_size_of_the_batches():
    small, large = (Feed(SCANS, settings_of(batch_size=n)) for n in (2, 8))
    halves = [small.batch(3, step) for step in range(4)]
    whole = large.batch(3, 0)
    for i, array in enumerate(arrays(whole)):
        np.testing.assert_array_equal(np.concatenate([arrays(b)[i] for b in halves]), array)


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batch_of_one_process(world_size):
    feed = Feed(SCANS, settings_of(batch_size=4))
    shares = [feed.batch(0, 1, rank=r, world_size=world_size) for r in range(world_size)]
    whole = feed.batch(0, 1)
    for i, array in enumerate(arrays(whole)):
        for rank, share in enumerate(shares):
            np.testing.assert_array_equal(arrays(share)[i], array[rank::world_size])


def test_the_thread_gives_the_batches_in_order_from_the_step_asked_for():
    feed = Feed(SCANS, settings_of())
    batches = list(feed.batches(2, first_step=1))
    assert len(batches) == feed.steps_per_epoch - 1
    for step, batch in enumerate(batches, start=1):
        assert_same(batch, feed.batch(2, step))


def test_an_epoch_left_early_ends_its_thread():
    batches = Feed(SCANS, settings_of(per_epoch=100)).batches(0)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_an_error_in_the_thread_reaches_the_loop():
    bare = MemoryScan(noise(), SCANS[0].findings, lung=np.empty((0, 3), int))
    config = settings_of()
    config.patches.vessel_fraction = 0.0
    with pytest.raises(Exception, match="lung blocks"):
        list(Feed([bare], config).batches(0))


def test_epochs_come_in_different_orders_that_hold_each_sample_once():
    feed = Feed(SCANS, settings_of(batch_size=2, per_epoch=6, copies=0))
    seen = [
        sorted(b.image_hu[i].tobytes() for b in feed.batches(0) for i in range(2)) for _ in range(2)
    ]
    in_turn = [cut_of(feed, 0, sample) for sample in range(6)]
    assert seen[0] == seen[1] == sorted(in_turn)


def cut_of(feed, epoch, sample):
    patch, corner, _ = feed.sample(epoch, sample)
    out = np.empty((32, 32, 32), np.int16)
    cut(SCANS[patch.scan].volume_hu, corner, out, AIR_HU)
    return out.tobytes()


def test_the_first_of_each_group_is_the_patch_as_drawn_and_the_others_are_near_it():
    feed = Feed(SCANS, settings_of(copies=3, shift_vox=5))
    for number in range(8):
        drawn, corner, rotation = feed.sample(0, 4 * number)
        assert (corner, rotation) == (drawn.corner, ROTATIONS[0])
        for copy in (1, 2, 3):
            patch, moved, _ = feed.sample(0, 4 * number + copy)
            assert patch == drawn
            assert np.abs(np.subtract(moved, corner)).max() <= 5


def test_copies_are_turned_only_if_asked_for():
    still, turned = (Feed(SCANS, settings_of(copies=4, rotate=r)) for r in (False, True))
    assert {still.sample(0, k)[2] for k in range(40)} == {ROTATIONS[0]}
    assert len({turned.sample(0, k)[2] for k in range(40)}) > 12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_image_target_and_weight_turn_alike(epoch):
    """The scan is bright where its lesion is, so image and target must agree voxel by voxel."""
    lesion = finding((30, 36, 41), 9.0)
    volume = np.full((64, 72, 80), -800, np.int16)
    volume[24:31, 36, 41] = volume[30, 36:44, 41] = volume[30, 36, 41:45] = 100  # three unlike arms
    mask = (volume > 0).astype(np.uint8)
    scan = MemoryScan(volume, (lesion,), label_volume=mask)
    config = settings_of(copies=4, shift_vox=8)
    config.patches.positive_fraction, config.patches.vessel_fraction = 1.0, 0.0
    batch = Feed([scan], config).batch(epoch, 0)
    arms = batch.image_hu > 0
    assert arms.any(axis=(1, 2, 3, 4)).all()
    assert (batch.target[arms] == 1).all()
    assert (batch.weight[arms] == batch.weight[arms][0]).all()


def test_outside_the_scan_is_air_that_does_not_count():
    at_the_corner = MemoryScan(noise(), (finding((1, 2, 78), 6.0),))
    config = settings_of(copies=0, batch_size=4)
    config.patches.positive_fraction, config.patches.vessel_fraction = 1.0, 0.0
    feed = Feed([at_the_corner], config)
    batch = feed.batch(0, 0)
    outside = batch.image_hu == AIR_HU  # noise stays above -1000 HU
    assert outside.any(axis=(1, 2, 3, 4)).all()
    assert (batch.weight[outside] == 0).all()
    assert (batch.weight[~outside] > 0).all()


def test_an_excluded_finding_never_counts():
    config = settings_of(batch_size=16, per_epoch=64)
    weights = [b.weight.min() for b in Feed(SCANS[1:], config).batches(0)]
    assert 0 in weights


def test_a_cut_inside_is_the_slice_itself():
    volume = noise(size_vox=(40, 41, 42))
    out = odd_pitched(32)
    assert cut(volume, (3, 4, 5), out, AIR_HU)
    np.testing.assert_array_equal(out, volume[3:35, 4:36, 5:37])


def test_a_cut_beyond_all_faces_is_padded():
    volume = noise(size_vox=(40, 41, 42))
    padded = np.pad(volume, 40, constant_values=AIR_HU)
    for corner in [(-5, 20, 30), (30, -31, 0), (-40, 0, 0), (41, 41, 41)]:
        out = odd_pitched(32)
        assert not cut(volume, corner, out, AIR_HU)
        z, y, x = (c + 40 for c in corner)
        expected = np.full((32, 32, 32), AIR_HU, np.int16)
        found = padded[z : z + 32, y : y + 32, x : x + 32]
        expected[: found.shape[0], : found.shape[1], : found.shape[2]] = found
        np.testing.assert_array_equal(out, expected)


def test_an_epoch_smaller_than_a_batch_is_refused():
    with pytest.raises(ConfigError, match=r"patches.per_epoch=3 .* gives 6 patches, fewer than"):
        Feed(SCANS, settings_of(batch_size=8, per_epoch=3))


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"optim.batch_size=4 cannot be shared equally by 3"):
        Feed(SCANS, settings_of(batch_size=4)).batch(0, 0, world_size=3)


def test_a_stored_scan_gives_the_batches_of_the_same_scan_in_memory(tmp_path):
    lung = np.zeros((64, 72, 80), bool)
    lung[16:48, 16:56, 16:64] = True
    blocks = np.argwhere(np.ones((8, 10, 12), bool)) * 4 + 16  # noise is dense everywhere
    mask = np.zeros((64, 72, 80), np.uint8)
    mask[28:33, 38:43, 48:53] = 1
    in_memory = [
        MemoryScan(noise(i), SCANS[i].findings, f"1.{i}", labels, blocks, blocks)
        for i, labels in enumerate([mask, None])
    ]
    (tmp_path / "scans").mkdir()
    write_info(tmp_path, StoreInfo({"spacing_mm": 1.0}))
    write_json(tmp_path / "splits.json", {"folds": {"1.0": 0, "1.1": 1}})
    for scan in in_memory:
        write_scan(
            tmp_path / "scans",
            ScanEntry(scan.series_uid, tmp_path, scan.series_uid, scan.findings),
            Prepared(scan.volume_hu, scan.grid, lung, scan.label_volume, scan.grid.spacing_mm),
        )
    stored = Feed(open_store(tmp_path).scans, settings_of(batch_size=16))
    assert_same(stored.batch(1, 0), Feed(in_memory, settings_of(batch_size=16)).batch(1, 0))
