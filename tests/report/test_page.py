"""The report in a real browser: opened from disk, clicked, sorted, filtered, scrolled."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from nodule_det.plots.training import save_training
from tests.chrome import chrome
from tests.report.run_folder import make_run

PIXELS = (
    "const c = document.getElementById(arguments[0]);"
    "return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
)


def report(*words, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "nodule_det", "report", *words],
        capture_output=True, text=True, check=False, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a report by the command, as a user would."""
    folder = make_run(tmp_path_factory.mktemp("report"))
    save_training([], folder.training_figure)
    assert "6 findings" in report(f"run={folder.path}")
    return folder.path / "report.html"


@pytest.fixture(scope="module")
def browser(page):
    with chrome() as driver:
        driver.get(page.as_uri())
        yield driver


@pytest.fixture(autouse=True)
def fresh(browser, page):
    browser.get("about:blank")
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


def test_the_curves_of_the_training_are_in_the_page(browser):
    picture = browser.find_element(By.CSS_SELECTOR, "section[aria-label=Training] img")
    assert picture.get_property("naturalWidth") == round(7.2 * 150)
    assert "learning rate" in picture.get_attribute("alt")


def test_the_page_says_that_it_contains_images_of_patients(browser):
    said = browser.find_element(By.ID, "patients")
    assert said.is_displayed()
    assert "contains images of patients" in said.text


def test_missed_lesions_are_listed_first_and_then_the_highest_scores(browser):
    listed = rows(browser)
    assert [row[0] for row in listed] == [
        "missed", "found", "found", "false positive", "false positive", "false positive",
    ]  # fmt: skip
    assert [row[2] for row in listed] == ["–", "0.900", "0.800", "0.950", "0.700", "0.200"]
    assert listed[1][1] == "8.0 mm"


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(browser):
    heading = browser.find_element(By.CSS_SELECTOR, "th[data-key=diameter_mm]")
    button = heading.find_element(By.TAG_NAME, "button")
    button.click()
    assert [row[1] for row in rows(browser)][:3] == ["30.0 mm", "8.0 mm", "5.0 mm"]
    button.click()
    assert [row[1] for row in rows(browser)][:3] == ["5.0 mm", "8.0 mm", "30.0 mm"]
    assert heading.get_attribute("aria-sort") == "ascending"


def test_filters_leave_what_was_asked_for(browser):
    browser.find_element(By.CSS_SELECTOR, "input[value=fp]").click()
    assert [row[0] for row in rows(browser)] == ["missed", "found", "found"]
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
    assert "found, at (40.0, 50.0, 60.0) mm LPS, 8.0 mm, score 0.900" in caption
    assert "texture </script>solid" in caption
    press(browser, "c")  # without circles
    for plane in ("axial", "coronal", "sagittal"):
        picture = pixels(browser, plane)[..., 0].astype(int)
        center = picture.shape[0] // 2
        assert picture[center + 3, center + 3] > 150  # the lesion
        assert picture[center + 60, center + 60] < 90  # lung around it


def test_left_and_right_scroll_the_slices_and_n_and_p_change_the_finding(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
    shown(browser, 1)
    press(browser, "c", *[Keys.ARROW_RIGHT] * 7)
    assert browser.find_element(By.ID, "axial-at").text.startswith("+7.0 mm, z 67.0 mm")
    picture = pixels(browser, "axial")[..., 0].astype(int)
    assert picture[picture.shape[0] // 2, picture.shape[0] // 2] < 90  # above the lesion
    press(browser, "n")
    assert "30.0 mm" in shown(browser, 2)
    press(browser, "p", "p")
    assert "missed" in shown(browser, 0)


def test_up_and_down_scroll_the_page_and_not_the_list(browser):
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    WebDriverWait(browser, 10).until(lambda _: browser.execute_script("return scrollY") > 0)
    assert "missed" in shown(browser, 0)


def test_rows_take_the_focus_and_arrow_keys_move_it(browser):
    first = browser.find_elements(By.CSS_SELECTOR, "#rows tr")[0]
    first.send_keys(Keys.ARROW_DOWN)
    assert "score 0.900" in shown(browser, 1)
    focused = browser.switch_to.active_element
    assert focused.get_attribute("aria-current") == "true"
    focused.send_keys(Keys.ARROW_UP)
    shown(browser, 0)
    tabbable = browser.find_elements(By.CSS_SELECTOR, "#rows tr[tabindex='0']")
    assert tabbable == [browser.find_elements(By.CSS_SELECTOR, "#rows tr")[0]], "one stop for tab"


@pytest.mark.parametrize("modifier", ["ctrlKey", "metaKey", "altKey"])
def test_shortcuts_of_the_browser_are_left_to_it(browser, modifier):
    swallowed = browser.execute_script(
        "const e = new KeyboardEvent('keydown', {key: 'c', bubbles: true, cancelable: true,"
        " [arguments[0]]: true}); document.body.dispatchEvent(e); return e.defaultPrevented",
        modifier,
    )
    assert not swallowed
    assert browser.find_element(By.ID, "circles").is_selected()


def grey(browser, offset=3):
    picture = pixels(browser, "axial")[..., 0].astype(int)
    center = picture.shape[0] // 2
    return picture[center + offset, center + offset]


def test_windows_are_set_by_key_and_button_and_by_dragging(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[2].click()
    shown(browser, 2)
    press(browser, "c")  # the lesion has 40 HU, the lung around it -850
    assert grey(browser) == pytest.approx(255 * (640 / 1500 + 0.5), abs=4)
    press(browser, "2")
    assert grey(browser) == pytest.approx(255 * 0.5, abs=8)
    assert grey(browser, 150) == 0
    assert browser.find_element(By.ID, "window-at").text == "W 400 L 40 HU"
    buttons = browser.find_elements(By.CSS_SELECTOR, "button.window")
    assert [b.get_attribute("aria-pressed") for b in buttons] == ["false", "true", "false"]
    buttons[2].click()
    assert grey(browser) == pytest.approx(255 * (-360 / 1800 + 0.5), abs=4)
    canvas = browser.find_element(By.ID, "axial")
    ActionChains(browser).drag_and_drop_by_offset(canvas, 30, 20).perform()
    assert browser.find_element(By.ID, "window-at").text == "W 1920 L 360 HU"


def at_axial(browser, row):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[row].click()
    shown(browser, row)
    return browser.find_element(By.ID, "axial-at").text


def test_the_axial_slice_is_named_by_its_number_in_the_source_series(browser):
    # 40 slices of 2.5 mm from z 5 mm: z 60 is the 23rd from the feet
    assert at_axial(browser, 1) == "0.0 mm, z 60.0 mm, slice 18 of 40 from the head (23 from feet)"
    press(browser, Keys.ARROW_RIGHT)
    assert browser.find_element(By.ID, "axial-at").text == (
        "+1.0 mm, z 61.0 mm, slice 18 of 40 from the head (23 from feet)"
    )


def test_a_scan_of_an_earlier_store_says_that_its_slices_are_resampled(browser):
    assert at_axial(browser, 2) == (
        "0.0 mm, z 50.0 mm, slice 44 of 64 of the resampled scan from the head (21 from feet)"
    )


def point(browser):
    return browser.execute_script(
        "const mark = document.querySelector('#point'), d = mark.querySelector('.lines');"
        "return [d.getAttribute('d'), mark.querySelector('text').textContent]"
    )


def test_the_operating_point_is_drawn_on_the_curve(browser):
    box = browser.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).plot.box"
    )
    left, top, width, height = box

    def expected(fp_per_scan, sensitivity):  # log2 from 1/8 to 8 is 6 octaves
        x = left + width * (np.log2(fp_per_scan) + 3) / 6
        return [left, top + height * (1 - sensitivity / 1.005), x, top + height]

    def drawn():
        return [float(n) for n in re.findall(r"[\d.]+", point(browser)[0])]

    # all candidates: 3 FP in 2 scans, 2 of 3 lesions; at 1/2: 1 FP, 2 of 3; at 1/8: none, none
    np.testing.assert_allclose(drawn(), expected(1.5, 2 / 3), atol=0.01)
    assert point(browser)[1] == "66.7% at 1.50 FP"
    set_rate(browser, 2)
    np.testing.assert_allclose(drawn(), expected(0.5, 2 / 3), atol=0.01)
    set_rate(browser, 0)
    np.testing.assert_allclose(drawn(), expected(1 / 8, 0), atol=0.01)
    assert point(browser)[1] == "0.0% at 0.00 FP"
    # The box is where Matplotlib drew the axes: the grid line of 8 FP is at its right edge.
    right = browser.execute_script(
        "const path = document.querySelector('.overview svg #patch_2 path');"
        "return path.getAttribute('d')"
    )
    corners = np.array([float(n) for n in re.findall(r"[\d.]+", right)]).reshape(-1, 2)
    np.testing.assert_allclose(corners.min(axis=0), [left, top], atol=0.01)
    np.testing.assert_allclose(corners.max(axis=0), [left + width, top + height], atol=0.01)


def set_rate(browser, position):
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        browser.find_element(By.ID, "rate"),
        position,
    )


def test_the_whole_slice_shows_where_the_finding_lies(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
    shown(browser, 1)
    press(browser, "c")
    data = np.array(browser.execute_script(PIXELS, "whole"), np.uint8)
    picture = data.reshape(-1, 336, 4)[..., 0].astype(int)
    assert picture.shape[0] == round(336 * 72 / 80)
    lesion = tuple(int((30.5) * 336 / 80) for _ in range(2))  # (y, x) = (30, 30) of 72 x 80
    assert picture[lesion] > 150
    assert picture[250, 300] < 90


def test_orientation_letters_and_a_scale_bar_are_drawn(browser):
    browser.find_elements(By.CSS_SELECTOR, "#rows tr")[0].click()
    shown(browser, 0)
    with_letters = pixels(browser, "coronal")[..., 0].astype(int)
    press(browser, "c")
    without = pixels(browser, "coronal")[..., 0].astype(int)
    changed = np.abs(with_letters - without) > 60
    half = 168
    for rows_, columns in (
        (slice(half - 9, half + 9), slice(4, 18)),  # R, at the left
        (slice(half - 9, half + 9), slice(-18, -4)),  # L
        (slice(4, 18), slice(half - 9, half + 9)),  # H
        (slice(-18, -4), slice(half - 9, half + 9)),  # F
    ):
        assert changed[rows_, columns].any()
    bar = with_letters[336 - 11, 10:100] > 200
    assert bar.sum() == pytest.approx(60, abs=2)  # 10 mm, 6 pixels each


def test_the_operating_point_updates_sensitivity_marks_and_counts(browser):
    # 2 scans, FP at .95, .7, .2: 1/2 per scan keeps one, so lesions above .7 count
    set_rate(browser, 2)
    assert browser.find_element(By.ID, "rate-at").text == "up to 1/2"
    text = browser.find_element(By.ID, "operating").text
    assert text.startswith("Sensitivity 66.7%: ")
    assert "2 of 3 lesions found, 1 missed, 1 false positive (0.50 per scan)" in text
    assert text.endswith("score above 0.700")
    assert [row[0] for row in rows(browser)] == ["missed", "found", "found", "false positive"]
    set_rate(browser, 0)
    assert [row[0] for row in rows(browser)] == ["missed"] * 3
    assert cases(browser) == [["1.2.0", "2", "0", "2", "0"], ["1.2.1", "1", "0", "1", "0"]]


def cases(browser):
    return [
        [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
        for row in browser.find_elements(By.CSS_SELECTOR, "#cases tbody tr")
    ]


def test_scans_are_listed_with_their_counts_and_filter_the_findings(browser):
    assert cases(browser) == [["1.2.0", "2", "1", "1", "2"], ["1.2.1", "1", "1", "0", "1"]]
    browser.find_elements(By.CSS_SELECTOR, "#cases button")[1].click()
    assert [row[4] for row in rows(browser)] == ["1.2.1", "1.2.1"]


def test_the_strongest_false_positives_are_links_to_the_finding(browser):
    links = browser.find_elements(By.CSS_SELECTOR, ".links a")
    assert [link.text for link in links] == ["0.950 in 1.2.1", "0.700 in 1.2.0", "0.200 in 1.2.0"]
    links[0].click()
    assert "false positive" in shown(browser, 3)


def test_with_too_few_scans_no_interval_is_shown(browser):
    text = browser.find_element(By.TAG_NAME, "body").text
    assert "A 95% CI needs at least 5 scans, and there are 2: read the figures as counts." in text
    assert text.count("95% CI") == 1
    cells = browser.find_elements(By.CSS_SELECTOR, "#sizes tbody tr:first-child td")[1:]
    assert [cell.text for cell in cells] == ["0.600", *["0.00"] * 2, *["0.67"] * 5]


def test_every_figure_has_its_interval(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("five"), n_healthy=3)
    report(f"run={folder.path}")
    with chrome() as driver:
        driver.get((folder.path / "report.html").as_uri())
        cells = driver.find_elements(By.CSS_SELECTOR, "#sizes tbody tr:first-child td")[1:]
        assert len(cells) == 8
        for cell in cells:
            assert re.fullmatch(r"[01]\.\d+\n[01]\.\d+–[01]\.\d+", cell.text)
        headline = driver.find_element(By.CSS_SELECTOR, ".headline").text
        assert len(re.findall(r"95% CI 0\.\d+ to [01]\.\d+", headline)) == 2
        set_rate(driver, 2)  # 1/2 per scan keeps two of the three false positives of five scans
        text = driver.find_element(By.ID, "operating").text
        assert re.match(r"Sensitivity 66\.7% \(95% CI \d+\.\d to \d+\.\d%\): 2 of 3 lesions", text)


@pytest.mark.parametrize("width", [1300, 700, 500])
def test_nothing_overflows_a_narrow_window(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_negative_coordinates_keep_their_sign_in_front(tmp_path_factory):
    with chrome() as driver:
        folder = make_run(tmp_path_factory.mktemp("negative"), origin_mm=(-60.0, -70.0, -80.0))
        report(f"run={folder.path}")
        driver.get((folder.path / "report.html").as_uri())
        driver.find_elements(By.CSS_SELECTOR, "#rows tr")[1].click()
        assert "at (-30.0, -40.0, -50.0) mm LPS" in shown(driver, 1)
        for element in driver.find_elements(By.CSS_SELECTOR, "#caption, td"):
            assert element.value_of_css_property("direction") == "ltr"


def test_the_findings_of_the_list_can_be_printed(browser):
    browser.execute_script("window.print = () => { window.printedOnce = true; }")
    browser.find_element(By.CSS_SELECTOR, "input[value=fp]").click()
    browser.find_element(By.ID, "print").click()
    WebDriverWait(browser, 20).until(lambda d: d.execute_script("return window.printedOnce"))
    captions = [
        e.get_attribute("textContent")
        for e in browser.find_elements(By.CSS_SELECTOR, "#printed figcaption")
    ]
    assert [caption.split(",")[0].split(": ")[1] for caption in captions] == [
        "missed", "found", "found",
    ]  # fmt: skip
    assert captions[1].endswith("z 60.0 mm, slice 18 of 40 from the head (23 from feet)")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#printed img")) == 3 * 4


def test_axe_finds_no_serious_violation(browser):
    violations = Axe().run(browser)["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in serious] == []


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
        ([], "candidates is not set: set run=FOLDER, or candidates=FILE.csv for any detector"),
        (["run=r", "scans=s.csv"], "run=r has its own candidates, annotations, scans"),
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
