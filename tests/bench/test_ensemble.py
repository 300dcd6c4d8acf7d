"""The rows of the comparison of ensembles, and its table."""

import json

import pytest

from bench import ensemble
from nodule_det.runs import RunFolder

HEADER = "seriesuid,coordX,coordY,coordZ"


def scored(path, found):
    """Return the score of a network that finds the first ``found`` of 20 lesions."""
    run = RunFolder(path)
    path.mkdir()
    uids = [f"s{k}" for k in range(20)]
    run.scans.write_text("seriesuid\n" + "".join(f"{uid}\n" for uid in uids))
    run.annotations.write_text(f"{HEADER},diameter_mm\n" + "".join(f"{u},0,0,0,8\n" for u in uids))
    run.excluded.write_text(f"{HEADER},diameter_mm\n")
    hits = "".join(f"{uid},0,0,0,0.9\n" for uid in uids[:found])
    run.candidates.write_text(f"{HEADER},probability\n{hits}")
    figures = {"pauc": found / 20, "pauc_interval": [0.1, 0.9], "n_scans": 20}
    run.froc.write_text(json.dumps(figures))
    run.result.write_text(json.dumps({"seconds": 10 * found}))
    return run


def test_each_network_and_all_of_them_are_scored_with_and_without_mirrors(tmp_path):
    rows = ensemble.contenders([RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")])
    assert [(name, len(members), views) for name, members, views in rows] == [
        ("network0", 1, 1), ("network1", 1, 1), ("network0-8views", 1, 8),
        ("network1-8views", 1, 8), ("ensemble", 2, 1), ("ensemble-8views", 2, 8),
    ]  # fmt: skip


def test_rows_are_compared_with_the_first_on_the_same_scans(tmp_path):
    rows = [("one", scored(tmp_path / "a", 10)), ("two", scored(tmp_path / "b", 15))]
    head, one, two = ensemble.table(rows).splitlines()
    assert head.split()[-1] == "scan"
    assert one.split() == ["one", "0.500", "0.100", "to", "0.900", "5.00"]
    assert float(two.split()[5]) == pytest.approx(15 / 20 - 10 / 20)
