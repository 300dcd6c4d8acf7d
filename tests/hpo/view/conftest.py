"""A running study, for all views."""

import pytest

from nodule_det.hpo.space.parsing import parse_space
from nodule_det.hpo.study.study import Header, StudyFolder, StudyWriter

SPACE = parse_space({"parameters": {"optim.lr": {"kind": "float", "low": 1e-6, "high": 1e-2}}})


@pytest.fixture
def study(tmp_path):
    """Two complete trials of an hour, one failed, one running since an hour, one queued."""
    writer = StudyWriter(StudyFolder(tmp_path), lambda: 0.0, Header(id="cafe", space=SPACE))
    for number in range(1, 6):
        writer.ask({"optim.lr": 1e-3}, "first")
        writer.write("intent", trial=number, attempt=1, name=f"nd-{number}")
        if number < 5:
            writer.write("started", trial=number, attempt=1, started_s=3600.0)
    for number, value in ((1, 0.5), (2, 0.6)):
        fields = {"state": "complete", "value": value, "value_se": 0.01, "ended_s": 7200.0}
        writer.write("finished", trial=number, **fields)
    writer.write("finished", trial=3, state="failed", reason="out_of_memory", ended_s=3600.0)
    writer.close()
    return writer.study
