"""The whole audit: silence where nothing is wrong, and lists of what to look at first."""

import numpy as np
import pytest

from nodule_det.analysis import Level
from nodule_det.errors import FrocInputError
from nodule_det.evaluate.example import write_example
from nodule_det.evaluate.reading import read_job
from nodule_det.froc import match
from tests.analysis.audit.submissions import Submission, correct
from tests.analysis.froc_jobs import as_candidates, as_lesions

LESIONS = (
    ("a", -50.0, 130.5, -520.25, 10.0),
    ("b", -30.0, 90.0, -300.0, 8.0),
    ("c", 60.0, 40.0, -100.0, 6.0),
)
HITS = tuple((*lesion[:4], 0.9 - k / 10) for k, lesion in enumerate(LESIONS))
FALSE = (("a", 10.5, 20.5, -480.0, 0.55), ("d", 1.5, 2.5, -3.5, 0.35))
SMALL = Submission(tuple("abcd"), LESIONS, HITS + FALSE, (("a", 0.0, 0.0, -500.0, -1.0),))


@pytest.mark.parametrize("seed", range(50))
def test_a_correct_submission_raises_no_warning(seed):
    assert correct(seed).warnings() == set()


@pytest.mark.parametrize("seed", range(10))
def test_a_correct_submission_of_few_scans_raises_no_warning(seed):
    assert correct(seed, n_scans=5).warnings() == set()


def test_the_simulated_detectors_raise_no_warning(tmp_path):
    from nodule_det.analysis import audit

    files = write_example(tmp_path)
    for candidates in (files.first, files.second):
        job = read_job(candidates, files.annotations, files.scans, files.excluded)
        matched = match(job.cases, job.lesions, job.candidates, job.excluded)
        findings = audit(job.lesions, job.candidates, job.excluded, matched)
        assert not [f for f in findings if f.level is Level.WARNING]


def test_a_perfect_small_submission_has_nothing_but_its_false_positives():
    assert list(SMALL.findings()) == ["worst_false_positives"]


def test_warnings_come_first():
    findings = SMALL.change(cases=[*SMALL.cases, *(f"other{k}" for k in range(9))]).findings()
    assert next(iter(findings)) == "cases_without_candidates"


def test_missed_lesions_are_listed_with_their_size_the_largest_first():
    finding = SMALL.change(candidates=[HITS[0], *FALSE]).findings()["missed_lesions"]
    assert "2 of 3 lesions are missed. Their median diameter is 7.0 mm" in finding.message
    assert [row["diameter_mm"] for row in finding.rows] == [8.0, 6.0]


def test_the_worst_false_positives_are_listed():
    rows = SMALL.findings()["worst_false_positives"].rows
    assert [(row["case"], row["score"], row["row"]) for row in rows] == [
        ("a", 0.55, 3),
        ("d", 0.35, 4),
    ]


@pytest.mark.parametrize("odd", ["A ", "scans/a.mhd", "a.nii.gz", "C:\\ct\\a.mha", "'a'"])
def test_an_unknown_id_that_is_nearly_a_known_one_says_so(odd):
    with pytest.raises(FrocInputError, match=r"\(which is nearly 'a'\)"):
        match(SMALL.cases, as_lesions(LESIONS), as_candidates([(odd, 0, 0, 0, 0.5)]))


@pytest.mark.parametrize("odd", ["7", "7.0", "07", 7, 7.0])
def test_a_number_that_lost_its_zeros_says_so(odd):
    with pytest.raises(FrocInputError, match=r"\(which is nearly '007'\)"):
        match(["007"], as_lesions([]), as_candidates([(odd, 0, 0, 0, 0.5)]))


def test_an_empty_evaluation_is_audited_too():
    empty = SMALL.change(lesions=[], candidates=[], excluded=[])
    assert set(empty.findings()) == {"cases_without_candidates", "no_excluded_findings"}


def test_infinite_scores_and_nan_sizes_are_plain_json():
    odd = SMALL.change(
        candidates=[("a", 0.0, 0.0, 0.0, np.inf), ("a", 9.0, 0.0, 0.0, -np.inf)],
        excluded=[("a", 1.0, 1.0, 1.0, np.nan)],
    )
    assert "excluded_without_diameter" in odd.findings()
