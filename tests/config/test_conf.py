"""Every file in conf/ states its purpose in its first lines, and every command composes."""

from __future__ import annotations

from pathlib import Path

import pytest

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_a_file_begins_with_its_purpose(path):
    assert any(line.startswith("# ") for line in path.read_text().splitlines()[:2])
