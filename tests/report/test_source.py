"""What a report is about: a run, or tables."""

from __future__ import annotations

import pytest

from nodule_det.config.report import ReportConfig
from nodule_det.errors import ConfigError
from nodule_det.report.source import read_source
from tests.report.run_folder import make_run


def test_a_run_knows_its_tables_resamples_and_page(tmp_path):
    run = make_run(tmp_path)
    source = read_source(ReportConfig(run=str(run.path)))
    assert (source.bootstrap, source.seed, source.name) == (200, 0, "run")
    assert source.out == run.path / "report.html"
    assert source.job.cases.tolist() == ["1.2.0", "1.2.1"]


def test_tables_have_the_settings_of_the_command(tmp_path):
    run = make_run(tmp_path)
    tables = {n: str(getattr(run, n)) for n in ("candidates", "annotations", "scans")}
    config = ReportConfig(**tables, store=str(tmp_path / "store"), bootstrap=7, seed=3)
    source = read_source(config)
    assert (source.bootstrap, source.seed, source.name) == (7, 3, "candidates")
    assert str(source.out) == "report.html"


def test_a_folder_without_candidates_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no candidates\.csv: it is not a run folder"):
        read_source(ReportConfig(run=str(tmp_path)))
