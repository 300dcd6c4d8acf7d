import json

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.inbox import enqueue, read_queue
from nodule_det.hpo.study.objective import PAUC

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})


def test_queued_entries_are_read_in_order(tmp_path):
    paths = [enqueue(tmp_path / "queue", {"optim.lr": lr}) for lr in (1e-3, 1e-4)]
    entries = read_queue(tmp_path / "queue", SPACE, PAUC)
    assert [e.path for e in entries] == paths
    assert [e.params for e in entries] == [{"optim.lr": 1e-3}, {"optim.lr": 1e-4}]


def test_an_unused_queue_is_empty(tmp_path):
    assert read_queue(tmp_path / "queue", SPACE, PAUC) == []


def test_an_invalid_entry_reports_its_fault(tmp_path):
    path = tmp_path / "1.json"
    for content in ("{", json.dumps({"params": {"optim.lr": 7}, "result": None}), "[]"):
        path.write_text(content)
        (entry,) = read_queue(tmp_path, SPACE, PAUC)
        assert entry.params is None
        assert entry.error.startswith(f"{path} cannot be used: ")
