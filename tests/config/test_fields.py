"""Walking the settings of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from nodule_det.config.fields import as_plain, as_typed, settings


class Shade(Enum):
    light = "light"


@dataclass
class Inner:
    """Below."""

    shades: list[Shade] = field(default_factory=lambda: [Shade.light])
    """Each one."""


@dataclass
class Outer:
    """Above."""

    count: int = 3
    """How many.

    A second paragraph."""
    quiet: bool = False
    inner: Inner = field(default_factory=Inner)


def test_settings_have_dotted_names_defaults_and_docstrings():
    assert dict(settings(Outer)) == {
        "count": (3, "How many.\n\nA second paragraph."),
        "quiet": (False, ""),
        "inner.shades": ([Shade.light], "Each one."),
    }


def test_plain_values_can_be_written_as_yaml():
    assert as_plain(Outer()) == {"count": 3, "quiet": False, "inner": {"shades": ["light"]}}


def test_defaults_are_formatted_as_they_are_typed():
    assert [as_typed(v) for v in (Shade.light, None, True, 0.5, [1, 2], "a")] == [
        "light",
        "null",
        "true",
        "0.5",
        "[1,2]",
        "a",
    ]


@dataclass
class Outermost(Outer):
    """Inherits settings, whose docstrings are in another class."""

    size: int = 1
    """How large."""


def test_inherited_settings_come_first_and_keep_their_docstrings():
    assert list(settings(Outermost)) == [*settings(Outer), ("size", (1, "How large."))]
