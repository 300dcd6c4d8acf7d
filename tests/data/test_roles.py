"""Which scans a run trains on, validates on, and keeps for its test."""

import pytest

from nodule_det.config.train import TrainConfig, ValidationConfig
from nodule_det.data.roles import held_out, trained_on
from nodule_det.data.store import open_store
from nodule_det.errors import ConfigError, StoreError


def uids(scans):
    return [scan.series_uid for scan in scans]


def test_neither_the_validation_nor_the_test_fold_is_trained_on(three_folds):
    store = open_store(three_folds)
    assert uids(trained_on(store, TrainConfig(fold=1))) == ["1.2.0", "1.2.2", "1.2.3", "1.2.5"]
    assert uids(trained_on(store, TrainConfig(fold=1, test_fold=2))) == ["1.2.0", "1.2.3"]
    assert uids(held_out(store, TrainConfig(fold=1, test_fold=2))) == ["1.2.1", "1.2.4"]


def test_one_fold_cannot_be_both(three_folds):
    with pytest.raises(ConfigError, match="test_fold=1 is also the validation fold"):
        trained_on(open_store(three_folds), TrainConfig(fold=1, test_fold=1))


def test_a_fold_that_does_not_exist_is_refused(three_folds):
    with pytest.raises(StoreError, match="fold=7 has no scans"):
        trained_on(open_store(three_folds), TrainConfig(fold=0, test_fold=7))


def test_fewer_scans_to_validate_are_drawn_by_seed(three_folds):
    store = open_store(three_folds)
    config = TrainConfig(fold=1, validation=ValidationConfig(max_scans=1))
    assert uids(held_out(store, config)) == uids(held_out(store, config))
    assert len(held_out(store, config)) == 1
