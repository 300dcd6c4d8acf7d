"""Skipping tests whose programs are missing."""

from __future__ import annotations

import os
import shutil

import pytest


def need_programs(*names: str) -> None:
    """Skip the test if a program is not installed; in CI that is a failure, not a skip."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{', '.join(missing)} must be installed in CI: see .ci/run")
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
