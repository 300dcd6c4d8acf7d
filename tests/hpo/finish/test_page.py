"""The result of a finished study as text and as a page."""

from nodule_det.hpo.finish.page import summary, write_page

ROW = {
    "params": {"optim.lr": 0.01},
    "observed": 0.9,
    "observed_se": 0.05,
    "largest_observed": False,
    "expected": None,
    "pauc": 0.8,
    "pauc_interval": [0.7, 0.87],
    "cpm": 0.75,
    "few_scans": None,
    "optimism": 0.1,
    "chosen": True,
}
LUCKY = {
    **ROW,
    "trial": 2,
    "largest_observed": True,
    "expected": 0.82,
    "pauc": 0.7,
    "optimism": 0.25,
    "observed": 0.95,
    "chosen": False,
    "difference": -0.1,
    "difference_interval": [-0.15, -0.02],
    "p_value": 0.02,
}
RECORD = {
    "selection": "other",
    "seeds": [0],
    "excluded": [],
    "test_scans": 0,
    "settings": [LUCKY, {**ROW, "trial": 1}],
}
TEST = {"label": "test, evaluated once", "pauc": 0.75, "pauc_interval": [0.6, 0.85],
        "few_scans": None, "n_scans": 20, "n_lesions": 31}  # fmt: skip


def test_the_summary_shows_the_choice_and_the_optimism_of_the_best_trial():
    lines = summary(RECORD).splitlines()
    assert lines[1] == ("trial 1: pAUC 0.800 (95% CI 0.700 to 0.870), in the study 0.900 <- chosen")
    assert lines[2].endswith(
        "expected by the model 0.820, difference -0.100 (-0.150 to -0.020), p 0.020"
    )
    assert lines[3] == (
        "the largest value of the study (trial 2) was 0.250 above its cross-validated pAUC"
    )


def test_the_page_escapes_the_name_of_a_study(tmp_path):
    write_page(tmp_path / "page.html", RECORD, "<b>s")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;s" in page
    assert "2 settings retrained on every fold with 1 seed." in page
    assert page.index("1 (chosen)") < page.index('<th scope="row">optim.lr</th>')
    assert "-0.100 <small>(-0.150 to -0.020, p 0.020)</small>" in page
    assert "<svg" in page


def test_the_summary_says_how_far_the_best_value_was_from_the_test():
    assert summary({**RECORD, "test": TEST}).splitlines()[-1] == (
        "test, evaluated once: pAUC 0.750 (95% CI 0.600 to 0.850), 31 lesions in 20 scans; the "
        "largest value of the study was 0.200 above that"
    )
    assert summary(RECORD).splitlines()[-1].startswith("not tested: the store has no test set")
    without_lesions = summary({**RECORD, "test_scans": 4}).splitlines()[-1]
    assert without_lesions.startswith("not tested: the test set has no lesions, so")


def test_the_largest_value_is_that_of_the_trials_that_were_not_excluded(tmp_path):
    record = {**RECORD, "excluded": [3, 7], "test": TEST}
    lines = summary(record).splitlines()
    largest = "the largest value of the study (without trial 3, 7)"
    assert lines[-2] == f"{largest} (trial 2) was 0.250 above its cross-validated pAUC"
    assert lines[-1].endswith(f"{largest} was 0.200 above that")


def test_several_seeds_and_few_scans_are_said(tmp_path):
    rows = [{**row, "few_scans": "3 scans"} for row in RECORD["settings"]]
    record = {**RECORD, "seeds": [0, 1], "settings": rows}
    first = "pAUC is the mean over the seeds; CIs, CPM and differences are of the first seed"
    assert summary(record).splitlines()[1:3] == [
        first,
        "trial 1: pAUC 0.800 (too few scans for a CI), in the study 0.900 <- chosen",
    ]
    write_page(tmp_path / "page.html", record, "s")
    page = (tmp_path / "page.html").read_text()
    assert first in page
    assert page.count("<small>(too few scans for a CI)</small>") == 2
