"""The page of a study in a real browser: a study that is done, runs, has begun, or only failed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.common.by import By

from nodule_det.config.hpo import AcquisitionConfig, Strategy
from nodule_det.hpo.model.expected import expect, load_expected
from nodule_det.hpo.simulate.functions import Objective
from nodule_det.hpo.simulate.study import Plan, run_study
from nodule_det.hpo.strategy.random_search import propose_random
from nodule_det.hpo.study.lock import StudyLock
from nodule_det.hpo.study.study import StudyFolder, StudyWriter, read_study
from tests.chrome import chrome

FIGURES = {"best_against_jobs", "best_against_hours", "workers", "states", "parallel"}
OF_MODEL = {"slices", "importance"}


def report(folder, *words, code=0):
    command = [sys.executable, "-m", "nodule_det.hpo.report", f"study={folder}", *words]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == code, run.stderr
    return run


def png_names(folder):
    return {path.stem for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Simulate 24 trials on four workers."""
    folder = tmp_path_factory.mktemp("studies") / "done"
    folder.mkdir()
    plan = Plan(
        workers=4,
        jobs=24,
        acquisition=AcquisitionConfig(strategy=Strategy.random),
    )
    run_study(Objective(3), propose_random, plan, folder)
    return folder


@pytest.fixture(scope="module")
def page(study):
    report(study)
    return study / "report" / "report.html"


def test_the_report_keeps_what_the_model_expects_for_status(study, page):
    found = read_study(study)
    assert load_expected(study, found) == expect(found)


def cut(study, folder, keep):
    """Copy a journal up to the last line that ``keep`` picks, as it stood at that time."""
    lines = (study / "journal.jsonl").read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if keep(n, line))
    folder.mkdir()
    (folder / "journal.jsonl").write_text("".join(lines[: last + 1]))
    return folder


@pytest.fixture(scope="module")
def browser():
    with chrome() as driver:
        yield driver


def show(browser, path):
    """Open a page; nothing may be wrong in its console."""
    browser.get(path.as_uri())
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def column(browser, name):
    """Return the texts of a column of the table of trials."""
    headings = [h.text for h in browser.find_elements(By.CSS_SELECTOR, ".list th")]
    cells = f"#rows td:nth-child({headings.index(name) + 1})"
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, cells)]


def click(browser, name):
    for button in browser.find_elements(By.CSS_SELECTOR, ".list th button"):
        if button.text == name:
            button.click()


def numbers(texts):
    return [float(text.split()[0]) for text in texts if text != "-"]


def test_the_headline_is_the_best_trial_of_the_study(browser, page, study):
    show(browser, page)
    best = read_study(study).best()
    assert browser.find_element(By.ID, "best").text == f"{best.value:.3f}"
    assert f"in trial {best.number}" in browser.find_element(By.CSS_SELECTOR, ".headline").text
    settings = browser.find_element(By.ID, "settings").text
    assert f"model.filters {best.params['model.filters']}" in settings


def test_the_table_is_sorted_by_value_and_by_a_click_on_any_heading(browser, page):
    show(browser, page)
    listed = column(browser, "pAUC")
    assert len(listed) == 24
    assert numbers(listed) == sorted(numbers(listed), reverse=True)
    assert set(listed[len(numbers(listed)) :]) == {"-"}  # no value stands last
    click(browser, "trial")
    assert column(browser, "trial") == [str(n) for n in range(1, 25)]
    click(browser, "trial")
    assert column(browser, "trial") == [str(n) for n in range(24, 0, -1)]
    click(browser, "lr")
    assert numbers(column(browser, "lr")) == sorted(numbers(column(browser, "lr")))
    click(browser, "shift_vox")  # absent from trials without copies
    present = [text for text in column(browser, "shift_vox") if text]
    assert numbers(present) == sorted(numbers(present))
    sorted_by = browser.find_elements(By.CSS_SELECTOR, "th[aria-sort=ascending]")
    assert [heading.text for heading in sorted_by] == ["shift_vox"]


def test_trials_are_filtered_by_state(browser, page):
    show(browser, page)
    failed = sum("failed" in state for state in column(browser, "state"))
    assert failed > 0
    browser.find_element(By.CSS_SELECTOR, "input[value=failed]").click()
    assert not any("failed" in state for state in column(browser, "state"))
    assert browser.find_element(By.ID, "count").text == f"{24 - failed} of 24 trials"


def test_every_figure_is_on_the_page_and_beside_it(browser, page):
    show(browser, page)
    for name in FIGURES | OF_MODEL:
        assert browser.find_element(By.CSS_SELECTOR, f"#{name} svg").size["width"] > 300
    assert png_names(page.parent) == FIGURES | OF_MODEL
    width = "return document.documentElement.scrollWidth - window.innerWidth"
    assert browser.execute_script(width) <= 0  # nothing juts out


@pytest.mark.parametrize("width", [1300, 700, 500])
def test_nothing_overflows_a_narrow_window(browser, page, width):
    show(browser, page)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_axe_finds_no_serious_violation(browser, page):
    show(browser, page)
    violations = Axe().run(browser)["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in serious] == []


def test_a_study_that_has_just_begun(browser, study, tmp_path):
    folder = cut(study, tmp_path / "begun", lambda n, line: '"kind": "submitted"' in line and n < 9)
    report(folder)
    show(browser, folder / "report" / "report.html")
    assert "no trial is complete yet" in browser.find_element(By.TAG_NAME, "header").text
    assert "shown from 5 values on" in browser.find_element(By.ID, "no-model").text
    assert set(column(browser, "state")) == {"queued"}
    assert png_names(folder / "report") == FIGURES


def test_a_study_that_only_has_its_header(browser, study, tmp_path):
    folder = cut(study, tmp_path / "empty", lambda n, _: n == 0)
    assert "0 trials" in report(folder).stdout
    show(browser, folder / "report" / "report.html")
    assert browser.find_element(By.ID, "count").text == "0 of 0 trials"


def test_a_study_that_is_running_says_who_drives_it(browser, study, tmp_path):
    folder = cut(study, tmp_path / "running", lambda n, line: "finished" in line and n < 70)
    (folder / "report").mkdir()
    (folder / "report" / "slices.png").write_bytes(b"of an earlier study")
    before = (folder / "journal.jsonl").read_bytes()
    with StudyLock(StudyFolder(folder).lock):
        holder = (folder / "driver.lock").read_bytes()
        report(folder)
        assert (folder / "driver.lock").read_bytes() == holder
    show(browser, folder / "report" / "report.html")
    assert "driven by process" in browser.find_element(By.ID, "counts").text
    assert {"running"} <= set(column(browser, "state"))
    assert (folder / "journal.jsonl").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"journal.jsonl", "report"}


def test_a_driver_that_is_gone_does_not_drive(browser, study, tmp_path):
    folder = cut(study, tmp_path / "left", lambda n, line: "finished" in line and n < 70)
    with StudyLock(StudyFolder(folder).lock):
        lock = (folder / "driver.lock").read_text()
    (folder / "driver.lock").write_text(re.sub('"started": "[^"]*"', '"started": "before"', lock))
    report(folder)
    show(browser, folder / "report" / "report.html")
    assert "driven by" not in browser.find_element(By.ID, "counts").text
    assert f"nodule_det.hpo.show study={folder} trial=" in browser.page_source


def test_a_study_of_failures_counts_them_by_reason(browser, study, tmp_path):
    folder = tmp_path / "failed"
    folder.mkdir()
    lines = (study / "journal.jsonl").read_text().splitlines(keepends=True)
    failing = re.compile(r'"state": "complete", "value": [^,]*, "value_se": [^,}]*')
    instead = '"state": "failed", "reason": "error", "message": "<b>bad</b></script>"'
    text = "".join(failing.sub(instead, line) for line in lines)
    (folder / "journal.jsonl").write_text(text)
    assert read_study(folder).best() is None
    report(folder)
    show(browser, folder / "report" / "report.html")
    assert browser.find_element(By.ID, "best").text == "–"
    endings = browser.find_element(By.ID, "endings").text
    assert "failed: error" in endings
    assert "<b>bad</b></script>" in endings
    assert browser.find_elements(By.ID, "settings") == []


def test_a_damaged_journal_is_reported_on_the_page(browser, study, tmp_path):
    folder = cut(study, tmp_path / "torn", lambda n, _: n == 30)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"kind": "fin')
    report(folder)
    show(browser, folder / "report" / "report.html")
    assert browser.find_element(By.CSS_SELECTOR, ".problems li").text


def test_the_page_needs_nothing_else_and_is_its_owners_alone(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", text) == []
    assert re.findall(r"@import|url\((?!#)[^)]*", text) == []
    assert page.stat().st_mode & 0o077 == 0


def test_the_same_study_gives_the_same_page(study, page, tmp_path):
    report(study, f"out={tmp_path}/again")
    assert (tmp_path / "again" / "report.html").read_text() == page.read_text()


def test_a_folder_without_a_study_is_one_line(tmp_path):
    run = report(tmp_path, code=1)
    assert "journal.jsonl does not exist: this folder is not a study" in run.stderr
    assert not (tmp_path / "report").exists()


def test_the_best_value_of_another_study_is_said_to_be_on_no_curve(study, page, tmp_path):
    folder = cut(study, tmp_path / "imported", lambda n, line: True)
    writer = StudyWriter(StudyFolder(folder), lambda: 1_900_000_000.0)
    number = writer.ask(dict(writer.study.trial(1).params), "imported", "result_cafe_000001.json")
    writer.write("finished", trial=number, state="complete", value=0.99)
    writer.close()
    report(folder)
    words = "run by another study, so not on the curves below"
    assert words in (folder / "report" / "report.html").read_text()
    assert words not in page.read_text()
