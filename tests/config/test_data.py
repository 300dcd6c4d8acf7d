"""Settings of ingest that cannot work are refused by the name that a user types."""

import pytest

from nodule_det.config.data import (
    DataConfig,
    LidcConfig,
    NamesConfig,
    PhantomConfig,
    StoreConfig,
)
from nodule_det.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (PhantomConfig, {"n_scans": 0}, r"phantom\.n_scans=0 must lie in \[1, 1000000\]"),
        (PhantomConfig, {"size_vox": [64, 64]}, r"phantom\.size_vox=\[64, 64\] needs three values"),
        (PhantomConfig, {"size_vox": [64, 64, 31]}, r"31\] needs three values .* of 32 or more"),
        (PhantomConfig, {"folds": 1}, r"phantom\.folds=1 must lie in"),
        (LidcConfig, {"min_readers": 5}, r"lidc\.min_readers=5 must be one of 1, 2, \.\.\., 4"),
        (LidcConfig, {"min_diameter_mm": -1}, r"lidc\.min_diameter_mm=-1 must lie in"),
        (StoreConfig, {"spacing_mm": 0}, r"store\.spacing_mm=0 must lie in \[0\.25, 5\]"),
        (StoreConfig, {"spacing_mm": float("nan")}, r"store\.spacing_mm=nan must lie in"),
        (StoreConfig, {"test_fraction": 1.0}, r"store\.test_fraction=1\.0 must lie in \[0, 0\.9\]"),
        (DataConfig, {"workers": -1}, r"workers=-1 must lie in"),
        (NamesConfig, {"names": "a.csv", "table": "b.csv"}, r"out is not set; add out=FILE"),
    ],
)
def test_a_setting_out_of_range_is_refused(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        kind(**settings)


def test_the_smallest_and_largest_values_are_allowed():
    PhantomConfig(n_scans=1, size_vox=[32, 32, 32], folds=2, seed=2**31 - 1)
    LidcConfig(min_readers=4, min_diameter_mm=0)
    StoreConfig(spacing_mm=0.25, margin_mm=0, test_fraction=0.9)


def test_the_test_set_is_chosen_in_one_way_only():
    assert StoreConfig(test_scans="test.csv").test_fraction == 0
    with pytest.raises(ConfigError, match=r"test_scans=test\.csv both choose the test set"):
        StoreConfig(test_fraction=0.1, test_scans="test.csv")


def test_two_settings_never_share_a_list():
    one, other = PhantomConfig(), PhantomConfig()
    one.size_vox[0] = 64
    assert other.size_vox == [128, 256, 256]
