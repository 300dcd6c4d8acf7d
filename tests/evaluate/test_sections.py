"""Everything that an evaluation computes, from files of two detectors."""

from dataclasses import replace

import numpy as np
import pytest

from nodule_det.config.evaluate import EvaluateConfig
from nodule_det.evaluate import sections
from nodule_det.evaluate.reading import read_job
from nodule_det.origin import Origin, ScanRecord, write_origin

HEADER = "seriesuid,coordX,coordY,coordZ"
NAMED = {"candidates": "candidates.csv", "annotations": "annotations.csv", "scans": "scans.csv"}
CASES = [f"1.2.{k}" for k in range(12)]


@pytest.fixture
def two_detectors(tmp_path):
    """Write 12 scans with a lesion each, and two detectors with 8 false positives a scan."""
    rng = np.random.default_rng(0)
    places = {case: rng.uniform(-90, 90, 3).round(1) for case in CASES}
    lesions = [f"{case},{x},{y},{z},10" for case, (x, y, z) in places.items()]
    write = {"annotations.csv": (f"{HEADER},diameter_mm", lesions)}
    for name in ("candidates.csv", "other.csv"):
        rows = []
        for case, (x, y, z) in places.items():
            rows.append(f"{case},{x},{y},{z},{rng.normal(2):.6f}")
            for _ in range(8):
                a, b, c = rng.uniform(-300, -150, 3).round(2)
                rows.append(f"{case},{a},{b},{c},{rng.normal():.6f}")
        write[name] = (f"{HEADER},score", rows)
    write["scans.csv"] = ("seriesuid,patient", [f"{c},P{k // 2}" for k, c in enumerate(CASES)])
    for name, (header, rows) in write.items():
        (tmp_path / name).write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def keep_rows(path, keep):
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *filter(keep, rows)]) + "\n")


def run(folder, **settings):
    job = read_job(
        *(folder / f"{n}.csv" for n in ("candidates", "annotations", "scans")),
        None,
        settings.pop("patients", ""),
    )
    named = {"compare": str(folder / "other.csv"), "bootstrap": 50, "permutations": 50}
    return sections.evaluate(EvaluateConfig(**NAMED, **named, **settings), job)


def test_patients_are_resampled_and_counted(two_detectors):
    done = run(two_detectors)
    assert done.sections[0].startswith("12 of 12 lesions detected in 12 scans of 6 patients")
    assert done.record["n_patients"] == done.record["comparison"]["n_patients"] == 6
    (two_detectors / "p.csv").write_text(
        "seriesuid,patient\n" + "".join(f"{case},{case}\n" for case in CASES)
    )
    alone = run(two_detectors, patients=str(two_detectors / "p.csv"))
    assert alone.record["n_patients"] == 12
    assert alone.record["pauc_interval"] != done.record["pauc_interval"]


def test_a_detector_that_was_run_on_half_of_the_scans_is_compared_on_these(two_detectors):
    keep_rows(two_detectors / "other.csv", lambda row: row.split(",")[0] in CASES[:6])
    done = run(two_detectors)
    audit = {finding["code"]: finding for finding in done.record["comparison"]["audit"]}
    assert "uses the 6 of 12 scans" in audit["compared_on_common_scans"]["message"]
    assert "cases_without_candidates" in audit
    assert done.record["comparison"]["n_cases"] == 6
    assert done.record["n_scans"] == 12
    assert "the comparison uses the 6 of 12 scans" in "\n".join(done.sections)


def test_detectors_without_a_common_scan_are_not_compared(two_detectors):
    keep_rows(two_detectors / "other.csv", lambda row: row.split(",")[0] in CASES[:6])
    keep_rows(two_detectors / "candidates.csv", lambda row: row.split(",")[0] in CASES[6:])
    done = run(two_detectors)
    assert "no comparison: the common scans have no lesion" in "\n".join(done.sections)
    assert "pauc" not in done.record["comparison"]


def test_the_other_detector_gets_the_whole_audit(two_detectors):
    path = two_detectors / "other.csv"
    header, *rows = path.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    turned = [[c, str(-float(x)), str(-float(y)), z, s] for c, x, y, z, s in cells]
    path.write_text("\n".join([header, *(",".join(row) for row in turned)]) + "\n")
    done = run(two_detectors)
    codes = [finding["code"] for finding in done.record["comparison"]["audit"]]
    assert "wrong_axes" in codes
    assert "wrong_axes" not in [finding["code"] for finding in done.record["audit"]]
    assert "the other detector, other.csv" in "\n".join(done.sections)


def test_patients_of_whom_the_network_has_seen_another_scan_are_warned_of(two_detectors):
    key = f"p{7:020x}"
    rows = [f"{case},{key if k == 3 else k}" for k, case in enumerate(CASES)]
    (two_detectors / "scans.csv").write_text("\n".join(["seriesuid,patient", *rows]) + "\n")
    write_origin(
        two_detectors / "candidates.csv",
        Origin(scans=ScanRecord.of(["earlier"], ["another"], {"earlier": key})),
    )
    paths = {name: two_detectors / file for name, file in NAMED.items()}
    job = read_job(**paths, excluded=None)
    assert sections.figure_kind(job) == (
        "training (the network was trained on the patients of 1 of 12 scans)"
    )
    (finding,) = sections.seen_before(job)
    assert (finding.code, finding.level.value) == ("seen_before", "warning")
    assert "other scans of the patients of 1 of 12 scans" in finding.message
    assert sections.seen_before(replace(job, patients=None)) == []
