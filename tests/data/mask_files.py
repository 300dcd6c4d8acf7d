"""DICOM SEG written by highdicom, RTSTRUCT written by pydicom, of masks that a test draws."""

from __future__ import annotations

import warnings

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from nodule_det.geometry import Grid
from tests.data.dicom_files import chest_series

SIZE = (7, 20, 24)
OBLIQUE = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [0.0, -0.3, 1.0]]))[0]
OBLIQUE = OBLIQUE * np.sign(np.diag(OBLIQUE))
OBLIQUE[:, 2] = np.cross(OBLIQUE[:, 0], OBLIQUE[:, 1])
DIRECTIONS = {"upright": np.eye(3), "oblique": OBLIQUE}


def series_and_grid(direction=None, origin_mm=(-40.0, -30.0, 100.0), **more):
    """Return the data sets of a small series, and the grid that they lie in."""
    axes = np.eye(3) if direction is None else direction
    volume = np.random.default_rng(0).integers(-1000, 400, SIZE).astype(np.int16)
    datasets = chest_series(volume, **more)
    for k, dataset in enumerate(datasets):
        position = np.array(origin_mm) + axes[:, 2] * 2.5 * k
        dataset.ImagePositionPatient = [f"{v:.8f}"[:16] for v in position]
        dataset.ImageOrientationPatient = [f"{v:.8f}"[:16] for v in axes.T[:2].ravel()]
        dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.7], 2.5
    return datasets, Grid(SIZE, (2.5, 0.8, 0.7), tuple(origin_mm), tuple(map(tuple, axes)))


def drawn_labels():
    """Draw a ring of voxels, a blob with a spike, and a single voxel as segments 1, 2, 3."""
    labels = np.zeros(SIZE, np.uint8)
    labels[1:4, 3:10, 4:11] = 1
    labels[1:4, 5:8, 6:9] = 0
    labels[3:6, 12:17, 14:20] = 2
    labels[4, 17, 15] = 2
    labels[6, 1, 22] = 3
    return labels


def seg(series, labels, n_segments=None, **more):
    """Return a SEG of labels 1 ... n."""
    import highdicom as hd

    n = n_segments or int(labels.max())
    kind = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the phantom's UIDs
        made = hd.seg.Segmentation(
            source_images=series,
            pixel_array=labels,
            segmentation_type=more.pop("kind", "BINARY"),
            segment_descriptions=[
                hd.seg.SegmentDescription(
                    k, f"nodule {k}", codes.SCT.MorphologicallyAbnormalStructure,
                    codes.SCT.Nodule, kind,
                )
                for k in range(1, n + 1)
            ],
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="none",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
            **more,
        )  # fmt: skip
    return made


def borders(mask):
    """Return the outlines of a (rows, columns) mask along the edges of its pixels.

    Each is the corners (row, column) of a loop; those of holes are loops of their own.
    """
    edges = {}
    padded = np.pad(mask, 1)
    for r, c in np.argwhere(mask):
        for dr, dc, start, end in (
            (-1, 0, (r, c), (r, c + 1)),
            (0, 1, (r, c + 1), (r + 1, c + 1)),
            (1, 0, (r + 1, c + 1), (r + 1, c)),
            (0, -1, (r + 1, c), (r, c)),
        ):
            if not padded[r + 1 + dr, c + 1 + dc]:
                edges.setdefault(start, []).append(end)
    loops = []
    while edges:
        at = first = next(iter(edges))
        loop = []
        while True:
            loop.append(at)
            ends = edges[at]
            following = ends.pop()
            if not ends:
                del edges[at]
            at = following
            if at == first:
                break
        loops.append(np.array(loop) - 0.5)
    return loops


def rtstruct(series, grid, labels, shift_mm=(0.0, 0.0, 0.0)):
    """Return an RTSTRUCT whose ROIs have the outlines of labels 1 ... n, in shuffled order."""
    first = series[0]
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = RTStructureSetStorage, generate_uid()
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    d.Modality, d.PatientID, d.PatientName = "RTSTRUCT", first.PatientID, first.PatientName
    d.StudyInstanceUID, d.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    d.StructureSetLabel = "nodules"
    of_series = Dataset()
    of_series.SeriesInstanceUID = first.SeriesInstanceUID
    study = Dataset()
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [of_series]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    for number in range(1, int(labels.max()) + 1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, f"nodule {number}"
        roi.ReferencedFrameOfReferenceUID = first.FrameOfReferenceUID
        roi.ROIGenerationAlgorithm = "MANUAL"
        d.StructureSetROISequence.append(roi)
        contours = Dataset()
        contours.ReferencedROINumber, contours.ContourSequence = number, []
        for k in np.random.default_rng(1).permutation(len(labels)):
            for loop in borders(labels[k] == number):
                world = grid.to_world(np.insert(loop, 0, k, axis=1)) + shift_mm
                contour = Dataset()
                contour.ContourGeometricType = "CLOSED_PLANAR"
                contour.NumberOfContourPoints = len(world)
                contour.ContourData = [f"{v:.6f}" for v in world.ravel()]
                contours.ContourSequence.append(contour)
        d.ROIContourSequence.append(contours)
    return d
