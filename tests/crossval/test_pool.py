"""Pooling the tables of several runs: columns, folds, and runs that cannot be pooled."""

import csv
import json
from types import SimpleNamespace

import pytest

from nodule_det.config.crossval import Selection
from nodule_det.crossval.pool import pool, report, require_results
from nodule_det.errors import TableError
from nodule_det.origin import Origin, ScanRecord, write_origin
from nodule_det.runs import RunFolder

ANNOTATION = "seriesuid,coordX,coordY,coordZ,diameter_mm"


@pytest.fixture
def runs(tmp_path):
    """Return two run folders whose annotations have different further columns."""
    made = {}
    for fold, (uid, extra, value) in enumerate([("a", "texture", "solid"), ("b", "rating", "5")]):
        run = RunFolder(tmp_path / f"run{fold}")
        run.path.mkdir()
        run.scans.write_text(f"seriesuid\n{uid}\n")
        run.candidates.write_text(
            f"seriesuid,coordX,coordY,coordZ,probability,diameter_mm\n{uid},1,2,3,0.5,7\n"
        )
        run.annotations.write_text(f"{ANNOTATION},{extra}\n{uid},1,2,3,6,{value}\n")
        run.excluded.write_text(f"{ANNOTATION}\n")
        figures = {"pauc": 0.5, "pauc_interval": [0.2, 0.8], "cpm": 0.4}
        run.froc.write_text(json.dumps({**figures, "n_scans": 1, "n_lesions": 1}))
        made[fold] = run
    return made


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_tables_are_concatenated_and_missing_columns_stay_empty(runs, tmp_path):
    pooled = pool(tmp_path, runs, Selection.same)
    lesions = rows(pooled.annotations)
    assert [(r["seriesuid"], r["texture"], r["rating"]) for r in lesions] == [
        ("a", "solid", ""),
        ("b", "", "5"),
    ]
    assert rows(pooled.scans) == [
        {"seriesuid": "a", "fold": "0"},
        {"seriesuid": "b", "fold": "1"},
    ]
    assert [fold["pauc"] for fold in pooled.folds] == [0.5, 0.5]
    assert rows(pooled.excluded) == []


def test_a_scan_in_two_folds_is_refused(runs, tmp_path):
    runs[1].scans.write_text("seriesuid\na\n")
    with pytest.raises(TableError, match="scan a is in fold 0 and in fold 1"):
        pool(tmp_path, runs, Selection.same)


def store_of(folds):
    """Return a store with these scans in its folds."""
    return SimpleNamespace(
        path="stores/x", validation=lambda k: [SimpleNamespace(series_uid=u) for u in folds[k]]
    )


def test_the_store_may_not_have_changed_since_the_training(runs):
    folds = {0: ["a"], 1: ["b", "c"]}
    store = store_of(folds)
    require_results(runs, Selection.same, store)  # validation.max_scans may have left out c
    for run in runs.values():
        run.test.path.mkdir()
        for name in ("scans", "candidates", "annotations", "excluded", "froc"):
            getattr(run.test, name).write_bytes(getattr(run, name).read_bytes())
    message = r"lists other scans than fold 1 of store=stores/x has now \(1 there, 2 here, 1 in bot"
    with pytest.raises(TableError, match=message):
        require_results(runs, Selection.other, store)
    folds[1] = ["c"]
    with pytest.raises(TableError, match="0 in both"):
        require_results(runs, Selection.same, store)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        None,
        "{}",
        '{"pauc": 0.5, "n_scans": 1, "n_lesions": 1}',
        '{"pauc": "0.5", "pauc_interval": [0, 1], "cpm": 0, "n_scans": 1, "n_lesions": 1}',
    ],
)
def test_a_damaged_froc_json_is_named(runs, tmp_path, content):
    runs[1].froc.unlink() if content is None else runs[1].froc.write_text(content)
    store = store_of({0: ["a"], 1: ["b"]})
    why = "missing" if content is None else "damaged"
    message = rf"results of fold 1 are not whole: \S+froc.json is {why}.*Delete the folder \S*run1 "
    with pytest.raises(TableError, match=message):
        require_results(runs, Selection.same, store)


@pytest.mark.parametrize("name", ["scans", "candidates", "annotations", "excluded"])
def test_a_missing_table_is_named(runs, tmp_path, name):
    getattr(runs[0], name).unlink()
    with pytest.raises(TableError, match=r"fold 0 are not whole: .*Delete the folder \S*run0 to"):
        require_results(runs, Selection.same, store_of({0: ["a"], 1: ["b"]}))


def test_a_fold_whose_network_has_seen_its_patients_is_warned_of(runs, tmp_path):
    key = f"p{1:020x}"
    runs[1].scans.write_text(f"seriesuid,patient\nb,{key}\n")
    for run in runs.values():
        record = ScanRecord.of(["c"], ["d"], {"c": key})
        write_origin(run.candidates, Origin("validation, one checkpoint", record))
    pooled = pool(tmp_path, runs, Selection.same)
    (line,) = pooled.warnings
    assert line.startswith("fold 1: the network was trained on other scans of the patients of 1 of")
    assert f"\nwarning: {line}\n" in report(tmp_path, pooled, 100).text
