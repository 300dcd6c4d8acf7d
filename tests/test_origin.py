"""What a network has seen, as hashes, and what its figures are therefore called."""

import json

import pytest

from nodule_det.errors import TableError
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
