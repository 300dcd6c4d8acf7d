"""Reports and segmentations of a series, read by pydicom and checked by dcmtk and dicom3tools."""

import os
import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from nodule_det.candidates import ScanCandidates
from nodule_det.config.predict import PredictConfig
from nodule_det.data.ingest.source import source_stamp
from nodule_det.data.readers.read import find_scans
from nodule_det.errors import ConfigError, ScanError
from nodule_det.predict.__main__ import predict_all
from nodule_det.predict.dicom import REPORT, SPHERES, refuse_other_formats, write_objects
from nodule_det.predict.folder import Predictions
from tests.data.cases.test_dicom_series import enhanced
from tests.data.dicom_files import NODULE_MM, SPACING_MM, chest_series, save_series, world_grid

FOUND = ScanCandidates(
    np.array([NODULE_MM, (-75.0, 10.0, -151.0)]), np.array([0.9, 0.25]), np.array([16.0, 1.0])
)
NONE = ScanCandidates(np.empty((0, 3)), np.empty(0), np.empty(0))


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "series"
    save_series(chest_series(), folder)
    (found,) = find_scans(folder)
    return found


@pytest.fixture(scope="module")
def written(scan, tmp_path_factory):
    """Write both objects; returns their files by ending."""
    files = {end: tmp_path_factory.mktemp("out") / f"a{end}" for end in (REPORT, SPHERES)}
    write_objects(scan, source_stamp(scan), FOUND, files, 20)
    return files


def validated(path):
    """Return the errors of dicom3tools' validator."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert said  # it names the kind of object
    return [line for line in said.splitlines() if line.startswith("Error")]


def dumped(program, path):
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} (Debian: dcmtk)")
    return subprocess.run([program, str(path)], capture_output=True, text=True, check=True).stdout


def items(dataset, meaning):
    """Return the content items of a report whose concept has a meaning."""
    for item in dataset.get("ContentSequence", []):
        if item.get("ConceptNameCodeSequence") and (
            item.ConceptNameCodeSequence[0].CodeMeaning == meaning
        ):
            yield item
        yield from items(item, meaning)


@pytest.mark.parametrize("ending", [REPORT, SPHERES])
def test_dicom3tools_and_dcmtk_accept_the_objects(written, ending):
    assert validated(written[ending]) == []
    assert "Test^Phantom" in dumped("dcmdump", written[ending])


def test_a_report_has_the_place_diameter_and_score_of_each_candidate(written, scan):
    text = dumped("dsrdump", written[REPORT])
    assert text.count('"Measurement Group"') == 2
    assert 'NUM:(,,"Diameter")="16.0" (mm,UCUM,"mm")' in text
    assert 'NUM:(,,"Certainty of Finding")="90.0" (%,UCUM,"%")' in text
    report = pydicom.dcmread(written[REPORT])
    assert (report.PatientID, report.StudyInstanceUID) == ("QA-1", "1.2.3")
    assert report.SeriesInstanceUID != scan.series_uid
    assert report.VerificationFlag == "UNVERIFIED"
    first, second = items(report, "Image Region")
    # the centre is at column (70 + 190) / 4 and row (20 + 190) / 4, from the corner of a pixel
    center, edge = np.reshape(first.GraphicData, (2, 2))
    np.testing.assert_allclose(center, [65.5, 53.0], atol=1e-4)
    np.testing.assert_allclose(edge - center, [8 / SPACING_MM[2], 0], atol=1e-4)
    # slice 23 lies at -300 + 23 * 6 = -162 mm, slice 25 at -150: nearest to -160 and -151
    images = [region.ContentSequence[0].ReferencedSOPSequence[0] for region in (first, second)]
    assert [image.ReferencedSOPInstanceUID for image in images] == ["1.2.3.4.24", "1.2.3.4.26"]


def test_a_segmentation_has_a_sphere_for_each_candidate(written):
    seg = pydicom.dcmread(written[SPHERES])
    assert [s.SegmentLabel for s in seg.SegmentSequence] == [
        "candidate 1, score 0.90", "candidate 2, score 0.25",
    ]  # fmt: skip
    voxels = dict.fromkeys((1, 2), 0)
    for frame, group in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        voxels[number] += int(frame.sum())
    away_mm = np.linalg.norm(np.stack(world_grid(), -1) - NODULE_MM, axis=-1)
    assert voxels == {1: (away_mm <= 8).sum(), 2: 1}  # a sphere smaller than a voxel is one


def per_frame_geometry(dataset):
    """Move what frames share into each frame, as some scanners write it."""
    (shared,) = dataset.SharedFunctionalGroupsSequence
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            setattr(frame, name, shared[name].value)
        delattr(shared, name)


def legacy_in_two_objects(folder):
    import highdicom

    series = chest_series()
    for k, part in enumerate((series[:25], series[25:])):  # the spheres are in both
        highdicom.legacy.LegacyConvertedEnhancedCTImage(
            part, "1.2.3.77", 9, f"1.2.3.78.{k}", k + 1
        ).save_as(folder / f"{k}.dcm")


@pytest.mark.parametrize(
    "write",
    [enhanced, lambda folder: enhanced(folder, per_frame_geometry), legacy_in_two_objects],
    ids=["enhanced", "geometry of each frame", "two legacy objects"],
)
def test_objects_of_a_multi_frame_series_refer_to_its_frames(write, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    write(source)
    (scan,) = find_scans(source)
    files = {end: tmp_path / f"a{end}" for end in (REPORT, SPHERES)}
    write_objects(scan, source_stamp(scan), FOUND, files, 20)
    for path in files.values():
        assert validated(path) == []
    heights_mm = {
        (image.SOPInstanceUID, number): group.PlanePositionSequence[0].ImagePositionPatient[2]
        for image in map(pydicom.dcmread, source.iterdir())
        for number, group in enumerate(image.PerFrameFunctionalGroupsSequence, start=1)
    }

    def height_mm(reference):
        return heights_mm[reference.ReferencedSOPInstanceUID, reference.ReferencedFrameNumber]

    assert dumped("dsrdump", files[REPORT]).count("<selected from IMAGE:") == 2
    regions = items(pydicom.dcmread(files[REPORT]), "Image Region")
    images = [region.ContentSequence[0].ReferencedSOPSequence[0] for region in regions]
    assert [height_mm(image) for image in images] == [-162, -150]
    spheres = pydicom.dcmread(files[SPHERES])
    drawn_mm = {1: [], 2: []}
    for frame in spheres.PerFrameFunctionalGroupsSequence:
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        at_mm = frame.PlanePositionSequence[0].ImagePositionPatient[2]
        drawn_mm[number].append(at_mm)
        if write is not legacy_in_two_objects:
            (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert height_mm(reference) == at_mm
    # less than 8 mm from -160, and the slice nearest to -151
    assert drawn_mm == {1: [-156, -162], 2: [-150]}
    referenced = spheres.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {r.ReferencedSOPInstanceUID for r in referenced} == {uid for uid, _ in heights_mm}


def test_only_the_best_candidates_are_written_and_none_is_a_report_too(scan, tmp_path):
    files = {end: tmp_path / f"a{end}" for end in (REPORT, SPHERES)}
    stamp = source_stamp(scan)
    write_objects(scan, stamp, FOUND, files, 1)
    assert len(list(items(pydicom.dcmread(files[REPORT]), "Measurement Group"))) == 1
    assert len(pydicom.dcmread(files[SPHERES]).SegmentSequence) == 1
    files = {end: tmp_path / f"b{end}" for end in (REPORT, SPHERES)}
    write_objects(scan, stamp, NONE, files, 20)
    assert validated(files[REPORT]) == []
    (count,) = items(pydicom.dcmread(files[REPORT]), "Quantity")
    assert count.MeasuredValueSequence[0].NumericValue == 0
    assert not files[SPHERES].exists()  # DICOM has no empty segmentation


def test_a_series_that_changed_since_is_refused(tmp_path):
    save_series(chest_series(), tmp_path / "s")
    (scan,) = find_scans(tmp_path / "s")
    stamp = source_stamp(scan)
    os.utime(next((tmp_path / "s").iterdir()), (1, 1))
    with pytest.raises(ScanError, match="changed after its candidates were found; run the same"):
        write_objects(scan, stamp, FOUND, {REPORT: tmp_path / "a.dcm"}, 20)
    assert not (tmp_path / "a.dcm").exists()


def test_a_header_that_lacks_what_a_report_needs_costs_this_scan_only(tmp_path):
    series = chest_series()
    for dataset in series:
        del dataset.StudyInstanceUID
    save_series(series, tmp_path / "s")
    (scan,) = find_scans(tmp_path / "s")
    with pytest.raises(ScanError, match=r"lacks what a DICOM object of it needs \(.*StudyInst"):
        write_objects(scan, source_stamp(scan), FOUND, {REPORT: tmp_path / "a.dcm"}, 20)


def test_files_that_are_not_dicom_are_refused_first(tmp_path, scan):
    (tmp_path / "lung.nii.gz").write_bytes(b"")
    (nifti,) = find_scans(tmp_path)
    refuse_other_formats([scan], "sr=true")
    with pytest.raises(ConfigError, match=r"sr=true needs DICOM input, and .*lung\.nii\.gz is not"):
        refuse_other_formats([scan, nifti], "sr=true")


def test_objects_and_anonymous_output_exclude_each_other():
    with pytest.raises(ConfigError, match="sr=true writes the identifiers of patient and study"):
        PredictConfig(checkpoint="a.pt", input="scans", sr=True, anonymise=True)


def test_missing_objects_are_added_to_finished_predictions_and_replaced_with_new_ones(
    scan, tmp_path
):
    class Keys:
        anonymise = False

        def scan(self, uid):
            return uid

    out = Predictions(tmp_path, 20)
    with out.claimed({"checkpoint": "x"}, [scan.series_uid]):
        assert predict_all([scan], lambda entry: FOUND, out, Keys()) == {}
        report = out.dicom(scan.series_uid, REPORT)
        assert not report.exists()
        assert predict_all([scan], lambda entry: pytest.fail("again"), out, Keys(), [REPORT]) == {}
        before = report.read_bytes()
        predict_all([scan], lambda entry: pytest.fail("again"), out, Keys(), [REPORT])
        assert report.read_bytes() == before
        os.utime(next(scan.path.iterdir()), (1, 1))
        predict_all([scan], lambda entry: NONE, out, Keys(), [REPORT])
        assert list(items(pydicom.dcmread(report), "Image Region")) == []
