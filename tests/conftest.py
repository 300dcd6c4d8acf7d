"""Fixtures of all tests: the folder of real data, small disks and small stores."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from tests.train.tiny_run import write_tiny_store

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real data that may lie beside the checkout; skip where it does not."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not here: real scans and recordings do not travel with the code")
    return path


@pytest.fixture(scope="session")
def real_slices(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a series of 80 slices of a real scan, 40 either way of its only annotated nodule."""
    data = shared / "data"
    folder = tmp_path_factory.mktemp("LIDC-IDRI-0314")
    for file in (data / "LIDC-IDRI-0314").glob("*.dcm"):
        whole = data / "LIDC-IDRI-0314-repair" / file.name
        source = whole if whole.exists() else file
        header = pydicom.dcmread(source, specific_tags=["ImagePositionPatient"])
        if -560.5 < header.ImagePositionPatient[2] < -480.5:
            os.symlink(source, folder / file.name)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a real disk of a size ("100k"); needs the right to mount."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        disk = tmp_path / f"disk{len(mounted)}"
        disk.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        try:
            done = subprocess.run(words, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount command")
        if done.returncode != 0:
            pytest.skip("mounting a small disk needs root and the right to mount")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="session")
def three_folds(tmp_path_factory) -> Path:
    """Return a store of six scans, two in each of three folds."""
    path = tmp_path_factory.mktemp("folds")
    write_tiny_store(path, scans=6, folds=3)
    return path
