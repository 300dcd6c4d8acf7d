"""The report in a real browser: opened from disk, clicked, sorted, filtered, scrolled."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.chrome import chrome
from tests.report.run_folder import make_run

PIXELS = (
    "const c = document.getElementById(arguments[0]);"
    "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a report by the command, as a user would."""
    folder = make_run(tmp_path_factory.mktemp("report"))
    words = [sys.executable, "-m", "nodule_det.report", f"run={folder.path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 findings" in done.stdout
    return folder.path / "report.html"


@pytest.fixture(scope="module")
def browser(page):
    with chrome() as driver:
        driver.get(page.as_uri())
        yield driver


@pytest.fixture(autouse=True)
def fresh(browser, page):
    browser.get(page.as_uri())
    shown(browser, 0)
    yield
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []


def rows(browser):
    return [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#rows tr")
    ]


def shown(browser, row):
    """Wait until the viewer shows the finding of a row; gives its caption."""
    element = browser.find_elements(By.CSS_SELECTOR, "#rows tr")[row]
    number = element.get_attribute("data-id")
    viewer = browser.find_element(By.ID, "viewer")
    WebDriverWait(browser, 10).until(lambda _: viewer.get_attribute("data-shows") == number)
    return browser.find_element(By.ID, "caption").text


def pixels(browser, plane):
    data = np.array(browser.execute_script(PIXELS, plane), np.uint8)
    edge = int(np.sqrt(data.size // 4))
    return data.reshape(edge, edge, 4)


def press(browser, *keys):
    body = browser.find_element(By.TAG_NAME, "body")
    for key in keys:
        body.send_keys(key)


def test_the_headline_is_the_figure_of_the_run(browser):
    # FP at .95 (0.5 a scan), .7 (1), .2 (1.5); lesions found at .9 and .8, one missed:
    # 0 up to 0.5 a scan, 2/3 from there to 5
    assert browser.find_element(By.ID, "pauc").text == f"{2 / 3 * 4.5 / 5:.3f}"
    assert "3 lesions in 2 scans" in browser.find_element(By.CSS_SELECTOR, ".headline").text


def test_all_findings_are_listed_the_surest_first(browser):
    listed = rows(browser)
    assert [row[0] for row in listed] == [
        "false positive", "hit", "hit", "false positive", "false positive", "missed",
    ]  # fmt: skip
    assert [row[2] for row in listed] == ["0.950", "0.900", "0.800", "0.700", "0.200", "–"]
    assert listed[1][1] == "8.0 mm"


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(browser):
    button = browser.find_element(By.CSS_SELECTOR, "button[data-key=diameter_mm]")
    button.click()
    assert [row[1] for row in rows(browser)][:3] == ["30.0 mm", "8.0 mm", "5.0 mm"]
    button.click()
    assert [row[1] for row in rows(browser)][:3] == ["5.0 mm", "8.0 mm", "30.0 mm"]
    assert button.get_attribute("aria-sort") == "ascending"


def test_filters_leave_what_was_asked_for(browser):
    browser.find_element(By.CSS_SELECTOR, "input[value=fp]").click()
    assert [row[0] for row in rows(browser)] == ["hit", "hit", "missed"]
    browser.find_element(By.ID, "min-diameter").send_keys("6")
    assert [row[1] for row in rows(browser)] == ["8.0 mm", "30.0 mm"]
    assert browser.find_element(By.ID, "count").text == "2 of 6 findings"


def test_a_filter_that_leaves_nothing_hides_the_viewer(browser):
    browser.find_element(By.ID, "scan-filter").send_keys("no such scan")
    assert rows(browser) == []
    assert not browser.find_element(By.ID, "viewer").is_displayed()


def test_a_click_shows_the_finding_in_three_planes(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
    caption = shown(browser, 1)
    assert "hit, at (40.0, 50.0, 60.0) mm LPS, 8.0 mm, score 0.900" in caption
    assert "texture </script>solid" in caption
    press(browser, "c")  # without circles
    for plane in ("axial", "coronal", "sagittal"):
        picture = pixels(browser, plane)[..., 0].astype(int)
        center = picture.shape[0] // 2
        assert picture[center + 3, center + 3] > 150  # the lesion
        assert picture[center + 60, center + 60] < 90  # lung around it


def test_arrow_keys_scroll_the_slices_and_change_the_finding(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
    shown(browser, 1)
    press(browser, "c", *[Keys.ARROW_RIGHT] * 7)
    assert browser.find_element(By.ID, "axial-at").text == "+7.0 mm"
    picture = pixels(browser, "axial")[..., 0].astype(int)
    assert picture[picture.shape[0] // 2, picture.shape[0] // 2] < 90  # above the lesion
    press(browser, Keys.ARROW_DOWN)
    assert "30.0 mm" in shown(browser, 2)


def test_circles_are_drawn_in_colour(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
    shown(browser, 1)
    colours = pixels(browser, "axial")[..., :3].astype(int)
    assert (np.ptp(colours, axis=-1) > 60).sum() > 50
    press(browser, "c")
    grey = pixels(browser, "axial")[..., :3].astype(int)
    assert (np.ptp(grey, axis=-1) > 60).sum() == 0


def test_the_style_sheet_is_in_force_to_its_last_rule(browser):
    # ">" and quotes of the style sheet that are escaped like text leave most rules without effect
    width = browser.find_element(By.ID, "min-diameter").size["width"]
    assert width == pytest.approx(5 * 16, abs=1)  # input[type="number"]: 5rem
    figure = browser.find_element(By.CSS_SELECTOR, ".overview > figure")
    assert figure.value_of_css_property("margin-left") == "0px"


def test_nothing_is_fetched_from_anywhere(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", text) == []
    assert re.findall(r"@import|url\((?!#)[^)]*", text) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nowhere"], "run=nowhere holds no candidates.csv"),
        ([], "run is not given"),
    ],
)
def test_a_wrong_folder_is_one_line(words, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det.report", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert message in done.stderr
