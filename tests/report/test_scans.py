"""Where the voxels of a report come from."""

from __future__ import annotations

import numpy as np
import pytest

from nodule_det.errors import StoreError
from nodule_det.report.scans import find_store, from_store
from tests.report.run_folder import GRID, SOURCE, draw, make_run


def test_a_store_gives_the_voxels_of_a_scan(tmp_path):
    make_run(tmp_path)
    scans = from_store(str(tmp_path / "store"), ["1.2.0", "1.2.1"])
    found = scans.read("1.2.1")
    np.testing.assert_array_equal(found.volume_hu, draw("1.2.1"))
    assert (found.grid, found.source) == (GRID, None)
    assert scans.read("1.2.0").source == SOURCE["1.2.0"]
    assert scans.patients is None, "every scan is a patient of its own"


def test_a_scan_that_a_store_lacks_is_named(tmp_path):
    make_run(tmp_path)
    with pytest.raises(StoreError, match=r"lacks 1 of 2 scans, such as 9\.9"):
        from_store(str(tmp_path / "store"), ["1.2.0", "9.9"])


def test_a_relative_store_is_found_above_the_run(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    monkeypatch.chdir("/")
    assert find_store("store", run.path) == str(tmp_path / "store")
    assert find_store("gone", run.path) == "gone"  # the error that follows names it as typed
