"""A store that the tests of a directory share: it is only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodule_det.data.store import StoreInfo, write_info
from nodule_det.files import write_json
from tests.train.tiny_run import SETTINGS, write_tiny_scan


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """Make a store of five scans: three in fold 0, two in fold 1."""
    path = tmp_path_factory.mktemp("store")
    (path / "scans").mkdir()
    write_info(path, StoreInfo(SETTINGS))
    for number in range(5):
        write_tiny_scan(path / "scans", number)
    write_json(path / "splits.json", {"folds": {f"1.2.{n}": n % 2 for n in range(5)}})
    return path
