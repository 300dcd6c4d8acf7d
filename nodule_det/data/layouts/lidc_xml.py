"""LIDC's XML files: the marks of four readers in each scan.

    *.xml ──read_marks()──▶ ScanMarks (series_uid, marks of all readers), or None: another kind

Readers' identities are not kept: a reader is the number of its ``readingSession``.

References:
    Armato et al., Medical Physics 38:915-931 (2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nodule_det.arrays import IntArray
from nodule_det.errors import LayoutError

ROOT = "LidcReadMessage"
NAMESPACES = "{*}"
"""ElementTree's wildcard for namespaces: LIDC's files use http://www.nih.gov, copies use none."""
LARGEST_PIXEL = 100_000
"""Larger coordinates mean a damaged file, and would take gigabytes to fill in."""
LONGEST_REASON = 200
RATINGS = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture", "malignancy")


class MarkKind(Enum):
    """The reader's classification of a mark."""

    NODULE = "nodule"
    """3 mm or more, outlined in each slice."""
    SMALL = "small_nodule"
    """Less than 3 mm, one point."""
    OTHER = "non_nodule"
    """3 mm or more but not a nodule, one point."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed chain of pixels in one slice.

    Attributes:
        z_mm: World z of the slice.
        points: (n, 2) pixels (x, y).
        inclusion: False for a hole.
    """

    z_mm: float
    points: IntArray
    inclusion: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of one reader."""

    reader: int
    kind: MarkKind
    outlines: tuple[Outline, ...]
    ratings: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScanMarks:
    """All marks of one series."""

    path: Path
    series_uid: str
    marks: tuple[Mark, ...]


def is_reading(path: Path) -> bool:
    """Return whether a file is an LIDC reading of a CT, judged by its first element."""
    try:
        for _, element in ElementTree.iterparse(path, events=("start",)):
            return str(element.tag).rpartition("}")[2] == ROOT
    except (ElementTree.ParseError, ValueError, LookupError, OSError):
        return False
    return False


def read_marks(path: Path) -> ScanMarks | None:
    """Read the marks of an XML file; None if it is of another kind (readings of X-ray images).

    Raises:
        LayoutError: If it is not XML, or lacks a required element.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise LayoutError(f"{path} is damaged ({in_short(error)}); copy it again") from None
    if root.tag.rpartition("}")[2] != ROOT:
        return None
    uid = root.findtext(f"{NAMESPACES}ResponseHeader/{NAMESPACES}SeriesInstanceUid", "").strip()
    if not uid:
        raise LayoutError(f"{path} has no ResponseHeader/SeriesInstanceUid; copy it again")
    try:
        return ScanMarks(path, uid, tuple(_marks(root)))
    except (ValueError, OverflowError) as error:
        raise LayoutError(
            f"{path} has a mark that cannot be read ({in_short(error)}); copy it again"
        ) from None


def _marks(root: ElementTree.Element) -> Iterator[Mark]:
    for reader, session in enumerate(root.findall(f"{NAMESPACES}readingSession")):
        for nodule in session.findall(f"{NAMESPACES}unblindedReadNodule"):
            outlines = tuple(_outline(roi) for roi in nodule.findall(f"{NAMESPACES}roi"))
            if not any(outline.inclusion for outline in outlines):
                raise ValueError("an unblindedReadNodule that includes nothing")
            point = len(outlines) == 1 and len(outlines[0].points) == 1
            kind = MarkKind.SMALL if point else MarkKind.NODULE
            yield Mark(reader, kind, outlines, _ratings(nodule))
        for other in session.findall(f"{NAMESPACES}nonNodule"):
            z_mm = _height(other)
            points = _points(other.findall(f"{NAMESPACES}locus"))
            yield Mark(reader, MarkKind.OTHER, (Outline(z_mm, points),))


def _outline(roi: ElementTree.Element) -> Outline:
    points = _points(roi.findall(f"{NAMESPACES}edgeMap"))
    inclusion = _text(roi, "inclusion").upper()
    if inclusion not in ("TRUE", "FALSE"):
        raise ValueError(f"inclusion={inclusion!r}")
    return Outline(_height(roi), points, inclusion == "TRUE")


def _points(elements: list[ElementTree.Element]) -> IntArray:
    if not elements:
        raise ValueError("an outline without points")
    points = np.array([[int(_text(e, "xCoord")), int(_text(e, "yCoord"))] for e in elements])
    if np.abs(points).max() > LARGEST_PIXEL:
        raise ValueError(f"a point at pixel {np.abs(points).max()}")
    return points


def _height(element: ElementTree.Element) -> float:
    z_mm = float(_text(element, "imageZposition"))
    if not math.isfinite(z_mm):
        raise ValueError(f"imageZposition={z_mm}")
    return z_mm


def in_short(error: Exception) -> str:
    """Return the message of an error, shortened because it may quote thousands of digits."""
    text = str(error)
    return text if len(text) < LONGEST_REASON else text[:LONGEST_REASON] + "..."


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(NAMESPACES + name)
    if text is None:
        raise ValueError(f"{element.tag.rpartition('}')[2]} without {name}")
    return text.strip()


def _ratings(nodule: ElementTree.Element) -> dict[str, int]:
    found = nodule.find(f"{NAMESPACES}characteristics")
    if found is None:
        return {}
    texts = {name: found.findtext(NAMESPACES + name, "").strip() for name in RATINGS}
    return {name: int(text) for name, text in texts.items() if text}
