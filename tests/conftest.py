"""What all tests share: where real data lie."""

from __future__ import annotations

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
