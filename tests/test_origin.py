"""What a network has seen, as hashes, and what its figures are therefore called."""

import json

import pytest

from nodule_det.errors import TableError
from nodule_det.files import write_sealed
from nodule_det.origin import (
    Origin,
    ScanRecord,
    origin_file,
    read_origin,
    scan_key,
    union,
    validation_kind,
    write_origin,
)

RECORD = ScanRecord.of(["a", "b"], ["b", "c"])


def test_a_key_is_a_hash_that_does_not_hold_the_uid():
    assert scan_key("1.2.3") == scan_key("1.2.3") != scan_key("1.2.4")
    assert len(scan_key("1.2.3")) == 16
    assert "1.2.3" not in json.dumps(ScanRecord.of(["1.2.3"], ["1.2.3"]).as_dict())


def test_scans_of_both_kinds_count_as_trained():
    assert RECORD.n_trained(["a", "b", "c", "d"]) == 2
    assert RECORD.n_selected(["a", "b", "c", "d"]) == 1


PATIENTS = {uid: f"p{n:020x}" for n, uid in enumerate("abcde")} | {"new": f"p{0:020x}"}
"""Scan "new" is of the patient of scan "a", which the network below was trained on."""
WITH_PATIENTS = ScanRecord.of(["a", "b"], ["b", "c"], PATIENTS)


def test_a_record_lists_patients_by_hashes_of_their_keys_in_the_store():
    assert (len(WITH_PATIENTS.trained_patients), len(WITH_PATIENTS.selected_patients)) == (2, 2)
    assert WITH_PATIENTS.trained_patients & WITH_PATIENTS.selected_patients
    text = json.dumps(WITH_PATIENTS.as_dict())
    assert not any(key in text for key in PATIENTS.values())
    assert ScanRecord.from_dict(WITH_PATIENTS.as_dict()) == WITH_PATIENTS


@pytest.mark.parametrize(
    "plain", ["0123456789abcdef", "HOSP4711001", "", f"p{0:020x}\n", f"p{0:019x}", f"P{0:020X}"]
)
def test_a_patient_whose_key_needs_no_secret_is_in_no_record(plain):
    record = ScanRecord.of(["a"], ["b"], {"a": plain, "b": plain})
    assert record == ScanRecord.of(["a"], ["b"])
    patients = {"c": plain}
    assert Origin(scans=record).warnings(["c"], patients) == []


@pytest.mark.parametrize(
    ("scans", "of_trained", "of_selected"),
    [
        (["new"], 1, 0),
        (["new", "a", "b", "d"], 1, 0),  # a and b were trained on themselves
        (["also_c", "c"], 0, 1),
        (["also_b", "new", "also_c"], 2, 1),  # the patient of b was trained and selected on
        (["d", "unknown"], 0, 0),
    ],
)
def test_new_scans_of_patients_that_the_network_has_seen_are_counted(
    scans, of_trained, of_selected
):
    patients = PATIENTS | {"also_b": PATIENTS["b"], "also_c": PATIENTS["c"]}
    assert WITH_PATIENTS.n_of_trained_patients(scans, patients) == of_trained
    assert WITH_PATIENTS.n_of_selected_patients(scans, patients) == of_selected


def test_an_ensemble_has_seen_the_patients_of_every_member_that_lists_them():
    other = ScanRecord.of(["d"], ["e"], PATIENTS)
    both = union([WITH_PATIENTS, other, ScanRecord.of(["f"], ["g"])])
    assert len(both.trained_patients) == 3
    assert both.selected_patients == WITH_PATIENTS.selected_patients | other.selected_patients


@pytest.mark.parametrize(
    ("scan", "kind", "warning"),
    [
        (
            "new",
            "training (the network was trained on the patients of 1 of 2 scans)",
            "the network was trained on other scans of the patients of 1 of 2 scans: figures "
            "on these are too high for new patients",
        ),
        (
            "also_c",
            "validation (the patients of 1 of 2 scans chose the checkpoint)",
            "other scans of the patients of 1 of 2 scans chose the network's checkpoint: "
            "figures on these are too high for new patients",
        ),
    ],
)
def test_new_scans_of_a_patient_that_the_network_has_seen_are_no_test(scan, kind, warning):
    origin, patients = Origin(scans=WITH_PATIENTS), PATIENTS | {"also_c": PATIENTS["c"]}
    assert origin.kind_on([scan, "d"], patients) == kind
    assert origin.warnings([scan, "d"], patients) == [warning]
    assert origin.kind_on([scan, "d"]) == "test (the network has seen none of the scans)"


@pytest.mark.parametrize(
    ("kind", "n_warnings"), [("validation, one checkpoint", 0), ("test fold, evaluated once", 1)]
)
def test_only_a_validation_may_have_patients_that_chose_the_checkpoint(kind, n_warnings):
    origin = Origin(kind, WITH_PATIENTS)
    assert len(origin.warnings(["also_c"], {"also_c": PATIENTS["c"]})) == n_warnings


def test_a_record_of_an_earlier_version_has_no_patients(tmp_path):
    table = tmp_path / "candidates.csv"
    scans = {name: RECORD.as_dict()[name] for name in ("trained", "selected")}
    write_sealed(origin_file(table), {"kind": "", "scans": scans})
    assert read_origin(table) == Origin(scans=RECORD)


def test_an_ensemble_has_seen_what_any_member_has():
    both = union([RECORD, ScanRecord.of(["c"], ["d"])])
    assert both == ScanRecord.of(["a", "b", "c"], ["b", "c", "d"])
    assert not union([RECORD, ScanRecord()]).known


@pytest.mark.parametrize(
    ("scans", "kind", "n_warnings"),
    [
        (["a", "d"], "training (the network was trained on 1 of 2 scans)", 1),
        (["c", "d", "e"], "validation (1 of 3 scans chose the checkpoint)", 1),
        (["a", "c"], "training (the network was trained on 1 of 2 scans)", 2),
        (["d", "e"], "test (the network has seen none of the scans)", 0),
    ],
)
def test_the_scans_say_which_kind_figures_are(scans, kind, n_warnings):
    origin = Origin(scans=RECORD)
    assert origin.kind_on(scans) == kind
    assert len(origin.warnings(scans)) == n_warnings


def test_a_network_without_a_record_says_nothing():
    assert Origin().kind_on(["a"]) == ""
    assert Origin().warnings(["a"]) == []


def test_a_validation_of_a_run_needs_no_warning_that_its_scans_chose():
    origin = Origin(validation_kind(9), RECORD)
    assert origin.kind_on(["c"]) == "validation, best of 9 checkpoints"
    assert origin.warnings(["c"]) == []
    assert len(origin.warnings(["a"])) == 1
    assert validation_kind(1) == "validation, one checkpoint"


def test_an_origin_lies_beside_its_table_and_is_read_back(tmp_path):
    table = tmp_path / "candidates.csv"
    assert read_origin(table) is None
    write_origin(table, Origin("cross-validated", RECORD))
    assert read_origin(table) == Origin("cross-validated", RECORD)
    assert read_origin(tmp_path / "others.csv") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"kind": 3, "scans": {"trained": [], "selected": []}}',
        '{"kind": "", "scans": []}',
        '{"kind": "", "scans": {"trained": ["1.2"], "selected": []}}',
        '{"kind": "", "scans": {"trained": "a", "selected": []}}',
        '{"kind": "", "scans": {"trained": [], "selected": [], "trained_patients": null}}',
        '{"kind": "", "scans": {"trained": [], "selected": [], "selected_patients": ["Quux"]}}',
    ],
)
def test_a_damaged_origin_is_named(tmp_path, text):
    table = tmp_path / "candidates.csv"
    origin_file(table).write_text(text)
    with pytest.raises(TableError, match=r"candidates\.origin\.json is damaged \("):
        read_origin(table)


def test_an_edited_origin_differs_from_its_checksum(tmp_path):
    table = tmp_path / "candidates.csv"
    write_origin(table, Origin("validation, best of 9 checkpoints", RECORD))
    file = origin_file(table)
    file.write_text(file.read_text().replace("best of 9", "best of 2"))
    with pytest.raises(TableError, match="differs from its checksum"):
        read_origin(table)
