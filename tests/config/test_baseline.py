"""Settings of the blob detector."""

from __future__ import annotations

import pytest

from nodule_det.config.baseline import BaselineConfig
from nodule_det.errors import ConfigError


@pytest.mark.parametrize("workers", [-1, 1025])
def test_an_impossible_number_of_processes_is_refused(workers):
    with pytest.raises(ConfigError, match=rf"workers={workers} must lie in \[0, 1024\]"):
        BaselineConfig(workers=workers)


def test_the_defaults_are_accepted():
    assert BaselineConfig().scans is None
