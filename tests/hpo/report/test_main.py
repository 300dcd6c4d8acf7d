"""``python -m nodule_det.hpo.report`` as a user types it; the page is tested in ``test_page``."""

import stat

from tests.hpo.command_line import hpo

REPORT = "nodule_det.hpo.report"


def test_the_command_writes_a_page_and_its_figures_that_only_the_user_can_read(study):
    before = (study / "journal.jsonl").read_bytes()
    said = hpo(REPORT, f"study={study}").stdout
    page = study / "report" / "report.html"
    assert said == f"{page}: 3 trials; open it in a browser\n"
    assert len(list(page.parent.glob("*.png"))) == 5  # three values are too few for a model
    assert {stat.S_IMODE(path.stat().st_mode) for path in page.parent.iterdir()} == {0o600}
    assert (study / "journal.jsonl").read_bytes() == before


def test_a_folder_without_a_study_is_named_and_gets_no_report(tmp_path):
    refused = hpo(REPORT, f"study={tmp_path}", code=1).stderr
    assert str(tmp_path) in refused
    assert len(refused.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_seed_is_refused_with_its_value(study):
    refused = hpo(REPORT, f"study={study}", "seed=-1", code=2).stderr
    assert "seed=-1" in refused
    assert not (study / "report").exists()
