"""Candidates as DICOM objects that a PACS stores beside their series: a report and spheres.

    DICOM series, ScanCandidates ──write_report()──▶ UID.sr.dcm   (TID 1500 measurement report)
                                 └─write_spheres()─▶ UID.seg.dcm  (segmentation)

Both objects belong to the patient and study of their series, so they carry its identifiers.  These
are read from the source when an object is written, and go nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nodule_det import __version__
from nodule_det.arrays import FloatArray
from nodule_det.candidates import ScanCandidates
from nodule_det.data.ingest.source import source_stamp
from nodule_det.data.readers import dicom_header as tags
from nodule_det.data.readers.dicom import check_series, choose, list_series
from nodule_det.data.scan import ScanEntry
from nodule_det.errors import ConfigError, ScanError
from nodule_det.files import replacing
from nodule_det.predict.folder import DICOM_ENDINGS

REPORT, SPHERES = DICOM_ENDINGS
NODULE = ("427359005", "SCT", "Solitary nodule of lung")
CHEST_CT = ("24627-2", "LN", "CT Chest")
CERTAINTY = ("111012", "DCM", "Certainty of Finding")
"""In percent: what a CAD device places upon a finding."""
DEVICE_UID = "2.25.180604093462741846921806604352461108745"
"""One fixed UID for this program as the observer of a report."""
SERIES_NUMBERS = {REPORT: 9100, SPHERES: 9200}


@dataclass(frozen=True)
class Source:
    """The headers of a series, and where each slice lies.

    Attributes:
        datasets: Objects without their pixels; those of one slice are in the order of the volume.
        places: Index in ``datasets`` and number of the frame, from 1, of each slice; None as the
            number in a series of one object for each slice.
        origins: (n, 3) world position of the first pixel of each slice.
        axes: (2, 3) unit vectors along a row and along a column, LPS.
        spacing_mm: Distance of pixels along a row, and along a column.
    """

    datasets: tuple[Any, ...]
    places: tuple[tuple[int, int | None], ...]
    origins: FloatArray
    axes: FloatArray
    spacing_mm: tuple[float, float]

    def pixel(self, slice_index: int, world_mm: FloatArray) -> FloatArray:
        """Return the continuous (column, row) of a point, 0 at the centre of the first pixel."""
        along = self.axes @ (np.asarray(world_mm) - self.origins[slice_index])
        return np.asarray(along / self.spacing_mm)

    def distances_mm(self, world_mm: FloatArray) -> FloatArray:
        """Return the distance of a point from the plane of each slice."""
        normal = np.cross(*self.axes)
        return np.asarray(np.abs((np.asarray(world_mm) - self.origins) @ normal))


def refuse_other_formats(scans: Sequence[ScanEntry], asked: str) -> None:
    """Refuse scans that are not DICOM, and a missing extra, before anything is computed.

    Args:
        scans: The scans.
        asked: The setting that asks for DICOM objects, for the message.

    Raises:
        ConfigError: If a scan is a file, or highdicom is not installed.
    """
    for scan in scans:
        if not scan.path.is_dir():
            raise ConfigError(
                f"{asked} needs DICOM input, and {scan.path} is not a DICOM series: the objects "
                f"refer to its images; remove {asked}"
            )
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{asked} needs highdicom, which is not installed ({error}); run "
            "pip install 'nodule_det[dicom]'"
        ) from None


def write_objects(
    scan: ScanEntry, stamp: str, found: ScanCandidates, files: dict[str, Path], most: int
) -> None:
    """Write the DICOM objects of a scan.

    Args:
        scan: Its source.
        stamp: Stamp of the source that the candidates were found in.
        found: Candidates, the best first.
        files: Ending -> file to write.
        most: Candidates to write at most.

    Raises:
        ScanError: If the source has changed since, or lacks what the objects must contain.
    """
    try:
        if source_stamp(scan) != stamp:
            raise ScanError(
                f"{scan.path} changed after its candidates were found; run the same command again"
            )
        source = read_source(scan)
    except OSError as error:
        raise ScanError(f"{scan.path} cannot be read ({error.strerror or error})") from error
    if not len(found):
        files = {ending: path for ending, path in files.items() if ending != SPHERES}
    writers: dict[str, Callable[[Source, ScanCandidates, int], Any]] = {
        REPORT: report,
        SPHERES: spheres,
    }
    for ending, path in files.items():
        try:
            made = writers[ending](source, found, most)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise ScanError(
                f"{scan.path} lacks what a DICOM object of it needs ({why}); export the series "
                "again from the PACS"
            ) from error
        with replacing(path) as temporary:
            made.save_as(temporary)


def read_source(scan: ScanEntry) -> Source:
    """Read the headers of a series.

    Raises:
        ScanError: If it is damaged.
    """
    import pydicom

    folders = [list_series(folder) for folder in (scan.path, *scan.folders)]
    ordered, _ = check_series(choose(folders, scan.series_uid))
    paths = list(dict.fromkeys(header.path for header in ordered))
    datasets = tuple(pydicom.dcmread(path, stop_before_pixels=True) for path in paths)
    first = datasets[0]
    for dataset in datasets:  # some archives give each slice a frame of reference of its own
        dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
        if "PerFrameFunctionalGroupsSequence" in dataset:
            _share_geometry(dataset)
    between_rows, between_columns = ordered[0].numbers(tags.PIXEL_SPACING, 2, "PixelSpacing")
    axes = ordered[0].numbers(tags.ORIENTATION, 6, "ImageOrientationPatient")
    return Source(
        datasets,
        tuple((paths.index(h.path), None if h.frame is None else h.frame + 1) for h in ordered),
        np.array([header.position_mm for header in ordered], np.float64),
        np.array(axes, np.float64).reshape(2, 3),
        (between_columns, between_rows),
    )


def _share_geometry(dataset: Any) -> None:
    """Share the first frame's orientation and pixel size, which highdicom reads there only.

    The frames of a checked series have the same.
    """
    shared = dataset.SharedFunctionalGroupsSequence[0]
    frame = dataset.PerFrameFunctionalGroupsSequence[0]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared and name in frame:
            setattr(shared, name, frame[name].value)


def report(source: Source, found: ScanCandidates, most: int) -> Any:
    """Return a measurement report: a circle, diameter and score for each candidate."""
    import highdicom
    from highdicom import sr

    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=_code("121007", "DCM", "Device"),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=DEVICE_UID, name="nodule_det", model_name=f"nodule_det {__version__}"
            ),
        )
    )
    groups = [
        _group(source, n, *values)
        for n, values in enumerate(
            zip(found.world_mm[:most], found.diameter_mm[:most], found.score[:most], strict=True),
            start=1,
        )
    ]
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=_code(*CHEST_CT),
        imaging_measurements=groups or [_no_candidate()],
    )
    return sr.ComprehensiveSR(
        evidence=list(source.datasets),
        content=content,
        series_number=SERIES_NUMBERS[REPORT],
        series_instance_uid=highdicom.UID(),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="nodule_det",
        series_description="Candidates of nodule_det (research)",
        is_complete=True,
    )


def _group(source: Source, n: int, world_mm: FloatArray, diameter_mm: float, score: float) -> Any:
    import highdicom
    from highdicom import sr

    nearest = int(source.distances_mm(world_mm).argmin())
    column, row = source.pixel(nearest, world_mm) + 0.5  # DICOM counts from the pixel's corner
    index, frame = source.places[nearest]
    image = source.datasets[index]
    edge = column + max(diameter_mm, source.spacing_mm[0]) / 2 / source.spacing_mm[0]
    region = sr.ImageRegion(
        graphic_type=sr.GraphicTypeValues.CIRCLE,
        graphic_data=np.array([[column, row], [edge, row]]),
        source_image=sr.SourceImageForRegion(
            image.SOPClassUID, image.SOPInstanceUID, None if frame is None else [frame]
        ),
    )
    millimetre, percent = _code("mm", "UCUM", "mm"), _code("%", "UCUM", "%")
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(highdicom.UID(), f"candidate {n}"),
        referenced_region=region,
        finding_type=_code(*NODULE),
        finding_sites=[sr.FindingSite(_code("39607008", "SCT", "Lung"))],
        measurements=[
            sr.Measurement(_code("81827009", "SCT", "Diameter"), _short(diameter_mm), millimetre),
            sr.Measurement(_code(*CERTAINTY), _short(100 * score), percent),
        ],
    )


def _no_candidate() -> Any:
    """Return the group of a report without candidates: a count of 0, as TID 1500 needs a group."""
    import highdicom
    from highdicom import sr

    count, unit = _code("246205007", "SCT", "Quantity"), _code("{nodules}", "UCUM", "nodules")
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(highdicom.UID(), "candidates"),
        finding_type=_code(*NODULE),
        measurements=[sr.Measurement(count, 0, unit)],
    )


def _short(value: float) -> float:
    """Round to what the 16 characters of a decimal string hold."""
    return float(f"{value:.6g}")


def _code(value: str, scheme: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)


def spheres(source: Source, found: ScanCandidates, most: int) -> Any:
    """Return a segmentation with one segment for each candidate: a sphere of its diameter.

    There must be a candidate: DICOM has no empty segmentation.
    """
    import highdicom
    from highdicom import seg

    n = min(most, len(found))
    labels, first, last = _draw(source, found, n)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="nodule_det", version=__version__,
        family=_code("123109", "DCM", "Artificial Intelligence"),
    )  # fmt: skip
    descriptions = [
        seg.SegmentDescription(
            segment_number=k + 1,
            segment_label=f"candidate {k + 1}, score {found.score[k]:.2f}",
            segmented_property_category=_code(
                "49755003", "SCT", "Morphologically Abnormal Structure"
            ),
            segmented_property_type=_code(*NODULE),
            algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=f"candidate {k + 1}",
        )
        for k in range(n)
    ]
    images, positions = list(source.datasets[first:last]), None
    if source.places[0][1] is not None:
        # highdicom finds the frames of the first object by their positions, and lists the others
        images = [source.datasets[0]]
        positions = [
            highdicom.PlanePositionSequence("PATIENT", origin)
            for origin in source.origins[first:last]
        ]
    return seg.Segmentation(
        source_images=images,
        further_source_images=source.datasets[1:] if positions else None,
        plane_positions=positions,
        pixel_array=labels,
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBERS[SPHERES],
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="nodule_det",
        manufacturer_model_name="nodule_det",
        software_versions=__version__,
        device_serial_number="0",
        series_description="Spheres of nodule_det (research)",
        content_label="CANDIDATES",
    )


def _draw(
    source: Source, found: ScanCandidates, n: int
) -> tuple[np.ndarray[Any, np.dtype[np.uint16]], int, int]:
    """Draw spheres as labels 1 to n; returns them with the first and last slice that they reach.

    Where two overlap, the higher score is kept.  Each contains the pixel of its centre.
    """
    reach = np.maximum(found.diameter_mm[:n] / 2, max(source.spacing_mm))
    away = np.array([source.distances_mm(point) for point in found.world_mm[:n]])
    touched = np.flatnonzero(((away <= reach[:, None]) | (away == away.min(1)[:, None])).any(0))
    first, last = int(touched[0]), int(touched[-1]) + 1
    rows, columns = int(source.datasets[0].Rows), int(source.datasets[0].Columns)
    labels = np.zeros((last - first, rows, columns), np.uint16)
    y, x = np.indices((rows, columns))
    for k in reversed(range(n)):
        for i in range(first, last):
            across = (found.diameter_mm[k] / 2) ** 2 - away[k, i] ** 2
            column, row = source.pixel(i, found.world_mm[k])
            if across > 0:
                dx, dy = (x - column) * source.spacing_mm[0], (y - row) * source.spacing_mm[1]
                labels[i - first][dx**2 + dy**2 <= across] = k + 1
    for k in range(n):
        i = int(away[k].argmin())
        column, row = np.round(source.pixel(i, found.world_mm[k])).astype(int)
        labels[i - first, np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)] = k + 1
    return labels, first, last
