"""The batches of a training run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodule_det.config.train import AugmentConfig, OptimConfig, PatchConfig, TrainConfig
from nodule_det.data.feed.batch import AIR_HU
from nodule_det.data.feed.cutter import cut
from nodule_det.data.feed.feed import Feed, cutting_threads
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
    return tuple(part.numpy() for part in batch.parts())


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
    other = Feed(SCANS, settings_of(seed=1)).batch(1, 2)
    assert not np.array_equal(other.image_hu, later.image_hu)


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
        sorted(b.image_hu[i].numpy().tobytes() for b in feed.batches(0) for i in range(2))
        for _ in range(2)
    ]
    in_turn = [cut_of(feed, 0, sample) for sample in range(6)]
    assert seen[0] == seen[1] == sorted(in_turn)


def cut_of(feed, epoch, sample):
    samples, _ = feed.plan.draw(epoch, np.array([sample]))
    out = np.empty((32, 32, 32), np.int16)
    cut(SCANS[samples.scan[0]].volume_hu, tuple(samples.corner[0].tolist()), out, AIR_HU)
    return out.tobytes()


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
    image, target, weight = arrays(Feed([scan], config).batch(epoch, 0))
    arms = image > 0
    assert arms.any(axis=(1, 2, 3, 4)).all()
    assert (target[arms] == 1).all()
    assert (weight[arms] == weight[arms][0]).all()


def test_outside_the_scan_is_air_that_does_not_count():
    at_the_corner = MemoryScan(noise(), (finding((1, 2, 78), 6.0),))
    config = settings_of(copies=0, batch_size=4)
    config.patches.positive_fraction, config.patches.vessel_fraction = 1.0, 0.0
    feed = Feed([at_the_corner], config)
    image, _, weight = arrays(feed.batch(0, 0))
    outside = image == AIR_HU  # noise stays above -1000 HU
    assert outside.any(axis=(1, 2, 3, 4)).all()
    assert (weight[outside] == 0).all()
    assert (weight[~outside] > 0).all()


def test_an_excluded_finding_never_counts():
    config = settings_of(batch_size=16, per_epoch=64)
    weights = [b.weight.min() for b in Feed(SCANS[1:], config).batches(0)]
    assert 0 in weights


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


@pytest.mark.parametrize("change", [{"noise_hu": 40.0}, {"contrast": 0.3}, {"scale": 0.2}])
def test_intensities_of_copies_vary_by_seed_epoch_and_step_alone(change):
    feed, plain = (Feed(SCANS, settings_of(copies=3, **c)) for c in (change, {}))
    varied = feed.batch(1, 2)
    assert_same(feed.batch(1, 2), varied)
    for batch in feed.batches(1, first_step=2):
        assert_same(batch, varied)
        break
    image = plain.batch(1, 2).image_hu.float()
    drawn = (feed.plan.rows(1, 2).intensity == np.float32([0, 1, 1])).all(axis=1)
    for i, as_drawn in enumerate(drawn):
        assert bool((varied.image_hu[i] == image[i]).all()) is bool(as_drawn)
    assert not drawn.all()
    assert_same_truth(varied, plain.batch(1, 2))


def assert_same_truth(a, b):
    np.testing.assert_array_equal(a.target, b.target)
    np.testing.assert_array_equal(a.weight, b.weight)


def test_a_machine_without_processor_affinity_counts_its_cores(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert cutting_threads(0) == 3
    assert cutting_threads(5) == 5
