"""Which scans a run trains on, validates on, and keeps for its test."""

import pytest

from nodule_det.config.train import TrainConfig, ValidationConfig
from nodule_det.data.roles import held_out, known_patients, require_lesions, trained_on
from nodule_det.data.store import open_store
from nodule_det.errors import ConfigError, StoreError
from nodule_det.files import read_sealed, write_sealed
from tests.train.tiny_run import name_patients, write_tiny_store


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


@pytest.fixture
def one_normal_scan(tmp_path):
    """Return a store of four scans in two folds: fold 0 has no lesions, fold 1 one normal scan."""
    write_tiny_store(tmp_path, scans=4, folds=2)
    for number in (0, 1, 2):
        record = tmp_path / "scans" / f"1.2.{number}.json"
        write_sealed(record, {**read_sealed(record, 2**20), "findings": []})
    return open_store(tmp_path)


def test_scans_without_lesions_choose_no_checkpoint(one_normal_scan):
    assert one_normal_scan.lesions_by_fold == {0: 0, 1: 2}
    require_lesions(one_normal_scan, TrainConfig(fold=1))
    with pytest.raises(ConfigError, match="fold=0 of store=S has only scans without lesions"):
        require_lesions(one_normal_scan, TrainConfig(store="S", fold=0))
    first, last = (  # of the two scans of fold 1, which seeds 0 and 3 draw
        TrainConfig(fold=1, seed=seed, validation=ValidationConfig(max_scans=1)) for seed in (0, 3)
    )
    assert (uids(held_out(one_normal_scan, first)), uids(held_out(one_normal_scan, last))) == (
        ["1.2.1"], ["1.2.3"],
    )  # fmt: skip
    require_lesions(one_normal_scan, last)
    with pytest.raises(ConfigError, match=r"max_scans=1 draws only scans without lesions"):
        require_lesions(one_normal_scan, first)


def test_a_patient_that_all_scans_share_is_not_known(three_folds, tmp_path):
    assert known_patients(open_store(three_folds)) == {f"1.2.{n}": f"patient{n}" for n in range(6)}
    write_tiny_store(tmp_path, scans=2, folds=2)
    name_patients(tmp_path, {"1.2.0": "p0", "1.2.1": "p0"})
    assert known_patients(open_store(tmp_path)) == {}
