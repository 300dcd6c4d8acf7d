"""LIDC-IDRI: DICOM series, and XML files with the marks of four readers -> one truth.

    XML ──read_marks()──▶ marks ──measure()──▶ Measured ──cluster()──▶ groups ──▶ findings

The XML files may lie beside the slices or in a folder of their own; they name their series.

**One truth from four readers**, by LUNA16's rules.  Marks of different readers whose centres are
closer than the sum of their radii form one nodule.  The closest pairs are joined first, and a
nodule has at most one mark of each reader.  Its centre and diameter are the means over its readers.
It is a lesion if at least ``min_readers`` marked it and its diameter is at least
``min_diameter_mm``.  All other marks become excluded findings: nodules marked by fewer readers,
nodules under 3 mm, and non-nodules.

**The diameter** of a mark is that of a ball with the volume inside its outlines.  The largest
diameter in a slice (the other common choice) grows with every spicule and every slip of the mouse.
A volume averages over all slices, and LUNA16's diameters follow it.

References:
    Armato et al., Medical Physics 38:915-931 (2011); Setio et al., Medical Image Analysis
    42:1-13 (2017), section 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from nodule_det.arrays import FloatArray, IntArray
from nodule_det.config.data import DataConfig, LidcConfig
from nodule_det.data.layouts.annotations import refuse_missing
from nodule_det.data.layouts.lidc_xml import RATINGS, Mark, MarkKind, ScanMarks, read_marks
from nodule_det.data.layouts.outline import region_pixels
from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom_header import SliceHeader
from nodule_det.data.readers.read import folders_below, join_twins, scans_in
from nodule_det.data.readers.voxels import is_regular
from nodule_det.data.scan import DEFAULT_EXCLUDED_MM, Finding, ScanEntry
from nodule_det.errors import LayoutError, ScanError
from nodule_det.geometry import Triple

SOLID_FROM, PART_SOLID_FROM = 4.0, 2.5
"""Lowest mean texture rating (1 ground glass ... 5 solid) of each class."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A mark in millimetres."""

    mark: Mark
    center_mm: Triple
    diameter_mm: float


@dataclass(frozen=True, slots=True)
class Plane:
    """The map from pixels of an axial series to world points.

    Attributes:
        origin_mm: World (x, y) of pixel (0, 0).
        step_mm: (2, 2); column 0 is the world step (x, y) along a row, column 1 along a column.
        gap_mm: Distance of neighbouring slices.
    """

    origin_mm: FloatArray
    step_mm: FloatArray
    gap_mm: float

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(abs(np.linalg.det(self.step_mm))) * self.gap_mm


def list_lidc(root: Path, config: DataConfig) -> list[ScanEntry]:
    """List the CT series of LIDC-IDRI with their findings.

    Raises:
        LayoutError: If an XML file is damaged, two XML files contradict each other, a series has
            no XML, or a scan is missing (the last two are ignored with ``partial``).
    """
    found: list[ScanEntry] = []
    slices: dict[str, list[SliceHeader]] = {}
    readings: dict[str, ScanMarks] = {}
    damaged: list[str] = []
    for folder in folders_below(root, Path(config.masks) if config.masks else None):
        here, content = scans_in(folder, root)
        found += [scan for scan in here if scan.path == folder]  # DICOM only
        for uid, there in content.ct.items():
            slices.setdefault(uid, []).extend(there)
        for path in sorted(folder.glob("*.xml")):
            try:
                if is_regular(path):
                    _add_reading(readings, path)
            except LayoutError as error:
                damaged.append(str(error))
    scans = join_twins(found)
    if damaged:  # their series is unknown, so scans without a reading fail with this reason
        scans = [
            scan
            if scan.series_uid in readings or scan.series_uid not in slices
            else replace(scan, problem=f"its readers' XML is missing or damaged: {damaged[0]}")
            for scan in scans
        ]
    if not scans or not (readings or damaged):
        raise LayoutError(
            f"{root} has {len(scans)} DICOM CT series and {len(readings)} readers' XML files of "
            "CT; LIDC-IDRI needs both, the XML files anywhere below it"
        )
    if not config.partial:
        _refuse_unread(scans, slices, readings)
        refuse_missing(root, readings, [scan.series_uid for scan in scans])
    return [
        _entry(scan, slices.get(scan.series_uid, []), readings.get(scan.series_uid), config.lidc)
        for scan in scans
        if scan.series_uid in readings or scan.series_uid not in slices or scan.problem
    ]


def _add_reading(readings: dict[str, ScanMarks], path: Path) -> None:
    found = read_marks(path)
    if found is None:
        return
    before = readings.setdefault(found.series_uid, found)
    if before is not found and before.path.read_bytes() != path.read_bytes():
        del readings[found.series_uid]
        raise LayoutError(
            f"{before.path} and {path} are different readings of series {found.series_uid}; "
            "take one of them out"
        )


def _refuse_unread(
    scans: Sequence[ScanEntry],
    slices: dict[str, list[SliceHeader]],
    readings: dict[str, ScanMarks],
) -> None:
    """Refuse a scan without an XML: an unread scan is not a scan without nodules."""
    for scan in scans:
        uid = scan.series_uid
        if uid in slices and uid not in readings and scan.problem is None:
            raise LayoutError(
                f"{scan.path} holds series {uid}, which no XML file below the data set's folder is "
                "about; add its XML, or set partial=true to leave such scans out"
            )


def _entry(
    scan: ScanEntry, slices: Sequence[SliceHeader], reading: ScanMarks | None, config: LidcConfig
) -> ScanEntry:
    findings: tuple[Finding, ...] = ()
    try:
        if reading is not None:
            findings = tuple(find(reading.marks, plane_of(slices), config))
    except ScanError:
        pass  # headers without geometry: reported when the scan is read
    return replace(scan, findings=findings)


def plane_of(slices: Sequence[SliceHeader]) -> Plane:
    """Return the geometry of an axial series from its headers.

    Raises:
        ScanError: If the headers lack it.
    """
    first = slices[0]
    cosines = np.array(first.numbers(tags.ORIENTATION, 6, "ImageOrientationPatient"))
    dy, dx = first.numbers(tags.PIXEL_SPACING, 2, "PixelSpacing")
    step_mm = np.stack([cosines[:2] * dx, cosines[3:5] * dy], axis=1)
    z_mm = np.unique([header.position_mm[2] for header in slices])
    if z_mm.size < 2:
        raise ScanError(f"{first} is the only slice of its series; a volume needs two or more")
    return Plane(np.array(first.position_mm[:2]), step_mm, float(np.median(np.diff(z_mm))))


def find(marks: Sequence[Mark], plane: Plane, config: LidcConfig) -> Iterator[Finding]:
    """Turn the marks of all readers into lesions and excluded findings."""
    nodules = [measure(mark, plane) for mark in marks if mark.kind is MarkKind.NODULE]
    for group in cluster(nodules):
        yield _consensus(group, config)
    for mark in marks:
        if mark.kind is not MarkKind.NODULE:
            center_mm = measure(mark, plane).center_mm
            yield Finding(center_mm, DEFAULT_EXCLUDED_MM, True, {"kind": mark.kind.value})


def measure(mark: Mark, plane: Plane) -> Measured:
    """Return a mark's centre (the mean of its voxels) and diameter (of the ball of its volume)."""
    by_slice: dict[float, list[tuple[IntArray, bool]]] = defaultdict(list)
    for outline in mark.outlines:
        by_slice[outline.z_mm].append((outline.points, outline.inclusion))
    points = []
    for z_mm, outlines in by_slice.items():
        xy_mm = plane.origin_mm + region_pixels(outlines) @ plane.step_mm.T
        points.append(np.column_stack([xy_mm, np.full(len(xy_mm), z_mm)]))
    voxels = np.concatenate(points)
    x, y, z = (float(v) for v in voxels.mean(axis=0))
    volume_mm3 = len(voxels) * plane.voxel_mm3
    return Measured(mark, (x, y, z), float((6 * volume_mm3 / np.pi) ** (1 / 3)))


def cluster(nodules: Sequence[Measured]) -> list[list[Measured]]:
    """Group marks of different readers that refer to the same nodule.

    Two marks may refer to the same nodule if their centres are closer than the sum of their radii.
    Pairs are joined in order of distance, unless a group would then have two marks of one reader.

    Returns:
        Groups in the order of their first marks; every mark is in exactly one.
    """
    group_of = list(range(len(nodules)))
    pairs = []
    for i, j in combinations(range(len(nodules)), 2):
        apart_mm = float(np.linalg.norm(np.subtract(nodules[i].center_mm, nodules[j].center_mm)))
        if apart_mm < (nodules[i].diameter_mm + nodules[j].diameter_mm) / 2:
            pairs.append((apart_mm, i, j))
    for _, i, j in sorted(pairs):
        one = [k for k, group in enumerate(group_of) if group == group_of[i]]
        other = [k for k, group in enumerate(group_of) if group == group_of[j]]
        readers = [nodules[k].mark.reader for k in {*one, *other}]
        if len(set(readers)) == len(readers):
            for k in other:
                group_of[k] = group_of[i]
    return [
        [nodule for nodule, group in zip(nodules, group_of, strict=True) if group == g]
        for g in dict.fromkeys(group_of)
    ]


def _consensus(group: Sequence[Measured], config: LidcConfig) -> Finding:
    x, y, z = (float(v) for v in np.mean([m.center_mm for m in group], axis=0))
    diameter_mm = float(np.mean([m.diameter_mm for m in group]))
    lesion = len(group) >= config.min_readers and diameter_mm >= config.min_diameter_mm
    attributes = {"kind": MarkKind.NODULE.value, "readers": str(len(group))}
    for name in RATINGS:
        ratings = [m.mark.ratings[name] for m in group if name in m.mark.ratings]
        if ratings:
            mean = float(np.mean(ratings))
            attributes[name] = _texture(mean) if name == "texture" else f"{mean:g}"
    return Finding((x, y, z), diameter_mm, not lesion, attributes)


def _texture(rating: float) -> str:
    if rating >= SOLID_FROM:
        return "solid"
    return "part_solid" if rating >= PART_SOLID_FROM else "ground_glass"
