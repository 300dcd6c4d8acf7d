"""What all tests share: where real data lie, and how a test says that a program is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the folder of real data that may lie beside the checkout; skip where it does not."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not here: real scans and recordings do not travel with the code")
    return path


def need_programs(*names: str) -> None:
    """Skip the test if a program is not installed; in CI that is a failure, not a skip."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{', '.join(missing)} must be installed in CI: see .ci/run")
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
