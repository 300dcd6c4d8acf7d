"""A fold used neither for training nor for validation, evaluated once at the end."""

import csv
import json

import pytest

from nodule_det.checkpoint import load_checkpoint
from nodule_det.errors import ConfigError
from nodule_det.origin import Origin, ScanRecord, read_origin
from nodule_det.train.run import run
from tests.train.tiny_run import tiny


def uids(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["seriesuid"] for row in csv.DictReader(file)}


def test_a_test_fold_that_is_also_the_validation_fold_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="test_fold=1 is also the validation fold"):
        run(tiny(store, tmp_path, fold=1, test_fold=1))


def test_a_run_resumed_after_its_test_leaves_the_same_figures(three_folds, tmp_path):
    config = tiny(three_folds, tmp_path, epochs=1, fold=1, test_fold=2)
    run(config)
    assert uids(tmp_path / "scans.csv") == {"1.2.1", "1.2.4"}
    assert uids(tmp_path / "test" / "scans.csv") == {"1.2.2", "1.2.5"}
    first = json.loads((tmp_path / "test" / "froc.json").read_text())
    result = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**result, "status": "running"}))
    run(config)
    assert json.loads((tmp_path / "test" / "froc.json").read_text()) == first
    assert first["n_lesions"] == 4


def test_the_checkpoint_and_the_tables_say_which_scans_the_network_has_seen(
    three_folds, tmp_path, capsys
):
    run(tiny(three_folds, tmp_path, epochs=2, fold=1, test_fold=2))
    record = ScanRecord.of(["1.2.0", "1.2.3"], ["1.2.1", "1.2.4"])
    for name in ("best.pt", "last.pt"):
        assert load_checkpoint(tmp_path / name).meta.scans == record
    assert read_origin(tmp_path / "candidates.csv") == Origin(
        "validation, best of 2 checkpoints", record
    )
    assert read_origin(tmp_path / "test" / "candidates.csv") == Origin(
        "test fold, evaluated once", record
    )
    assert "(validation, best of 2 checkpoints); run folder" in capsys.readouterr().out
