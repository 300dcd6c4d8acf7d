"""What a report is about: a run, or tables."""

from __future__ import annotations

import pytest

from nodule_det.config.hits import HitBy
from nodule_det.config.report import ReportConfig
from nodule_det.errors import ConfigError
from nodule_det.evaluate import Boxes
from nodule_det.froc import match
from nodule_det.packing import pack
from nodule_det.report.page import write_report
from nodule_det.report.source import open_source
from tests.report.run_folder import make_run


def test_a_run_knows_its_tables_resamples_and_page(tmp_path):
    run = make_run(tmp_path)
    with open_source(ReportConfig(run=str(run.path))) as source:
        pass
    assert (source.bootstrap, source.seed, source.name) == (200, 0, "run")
    assert source.out == run.path / "report.html"
    assert source.job.cases.tolist() == ["1.2.0", "1.2.1"]


def test_tables_have_the_settings_of_the_command(tmp_path):
    run = make_run(tmp_path)
    tables = {n: str(getattr(run, n)) for n in ("candidates", "annotations", "scans")}
    config = ReportConfig(**tables, store=str(tmp_path / "store"), bootstrap=7, seed=3)
    with open_source(config) as source:
        pass
    assert (source.bootstrap, source.seed, source.name) == (7, 3, "candidates")
    assert str(source.out) == "report.html"


def test_the_report_of_a_packed_trial_is_that_of_its_files(tmp_path):
    run = make_run(tmp_path)
    pages = [tmp_path / "before.html", tmp_path / "after.html"]
    write_report(ReportConfig(run=str(run.path), out=str(pages[0])))
    pack(run.path, run.tables_and_figures)
    assert not run.candidates.exists()
    write_report(ReportConfig(run=str(run.path), out=str(pages[1])))
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_folder_without_candidates_is_refused(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"holds no candidates\.csv: it is not a run folder"),
        open_source(ReportConfig(run=str(tmp_path))),
    ):
        pass


def test_boxes_decide_where_they_are_asked_for(tmp_path):
    # Cubes of the diameters: the first lesion overlaps by 318.5 of 536.5 mm3, the second by
    # 8,000 of 27,000.
    run = make_run(tmp_path)
    for iou, found in ((0.2, 2), (0.5, 1), (0.6, 0)):
        with open_source(ReportConfig(run=str(run.path), hit=HitBy.iou, iou=iou)) as source:
            job = source.job
        matched = match(job.cases, job.lesions, job.candidates, job.excluded, source.rules)
        assert (int(matched.found.sum()), source.hit) == (found, Boxes(iou))


def test_the_page_names_the_rule_of_hits(tmp_path):
    run = make_run(tmp_path)
    config = ReportConfig(run=str(run.path), hit=HitBy.iou, iou=0.5, out=str(tmp_path / "r.html"))
    path, _ = write_report(config)
    text = path.read_text(encoding="utf-8")
    assert "A hit is a box with an IoU of at least 0.5 with the lesion&#39;s." in text
